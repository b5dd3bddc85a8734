// A picture of a comparison: a bar for each row, to the right of the middle where ours
// is better and to the left where theirs is, by how much on a logarithmic scale.
//
//   node bars.mjs ROWS >picture.svg      rows as benches/compare writes them, tabs between

import { readFileSync } from 'node:fs';

const rows = readFileSync(process.argv[2], 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => {
    const [work, peer, unit, better, ours, theirs] = line.split('\t');
    const [a, b] = better === 'lower' ? [theirs, ours] : [ours, theirs];
    return { work, peer, unit, ours, theirs, ratio: Number(b) > 0 ? Number(a) / Number(b) : 1 };
  });
const escape = (text) => text.replace(/[&<>"]/g, (found) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[found]);

const LINE = 26;
const TOP = 46;
// Room for the longest texts of 12 px on either side.
const LEFT = 520;
const WIDTH = 420;
const RIGHT = 330;
const MOST = 4; // doublings to either side
const middle = LEFT + WIDTH / 2;
const at = (ratio) => middle + (Math.max(-MOST, Math.min(MOST, Math.log2(ratio || 1))) / MOST) * (WIDTH / 2);
const height = TOP + rows.length * LINE + 16;

const out = [];
out.push(
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + WIDTH + RIGHT} ${height}" font-family="sans-serif" font-size="12">`,
  '<style>text{fill:#222}.axis{stroke:#bbb}.ours{fill:#2a7a4b}.theirs{fill:#b4552d}@media(prefers-color-scheme:dark){text{fill:#ddd}.axis{stroke:#555}}</style>',
  `<text x="${middle + 8}" y="16">ours is better</text><text x="${middle - 8}" y="16" text-anchor="end">theirs is better</text>`,
);
for (let doubling = -MOST; doubling <= MOST; doubling += 1) {
  const x = at(2 ** doubling);
  const label = doubling < 0 ? `1/${2 ** -doubling}` : `${2 ** doubling}`;
  out.push(
    `<line class="axis" x1="${x}" x2="${x}" y1="${TOP - 8}" y2="${height - 10}"${doubling === 0 ? ' stroke-width="2"' : ''}/>`,
    `<text x="${x}" y="${TOP - 14}" text-anchor="middle">${label}</text>`,
  );
}
rows.forEach((row, index) => {
  const y = TOP + index * LINE;
  const end = at(row.ratio);
  const [x, width] = end > middle ? [middle, end - middle] : [end, middle - end];
  out.push(
    `<text x="${LEFT - 10}" y="${y + 14}" text-anchor="end">${escape(`${row.work}, beside ${row.peer}`)}</text>`,
    `<rect class="${row.ratio >= 1 ? 'ours' : 'theirs'}" x="${x.toFixed(1)}" y="${y + 3}" width="${Math.max(1, width).toFixed(1)}" height="${LINE - 10}"/>`,
    `<text x="${LEFT + WIDTH + 8}" y="${y + 14}">${row.ratio.toFixed(2)}: ${escape(`${row.ours} to ${row.theirs} ${row.unit}`)}</text>`,
  );
});
out.push('</svg>');
console.log(out.join('\n'));
