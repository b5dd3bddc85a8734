// Bundles src/ and hls.js into dist/, which the edge embeds: pages by their
// name, everything else under assets/ with a hash in its name.

import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const src = (name) => join(here, 'src', name);
const out = join(here, 'dist.new');
const dist = join(here, 'dist');
const require = createRequire(import.meta.url);
const hlsRoot = dirname(dirname(require.resolve('hls.js')));
const hlsVersion = JSON.parse(await readFile(join(hlsRoot, 'package.json'), 'utf8')).version;
const names = new Map([['version', `hls.js ${hlsVersion}`]]);

await rm(out, { recursive: true, force: true });
await mkdir(join(out, 'assets'), { recursive: true });

// Writes an asset under a name that changes with its content.
async function emit(name, content) {
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 12);
  const path = `assets/${basename(name, extname(name))}-${hash}${extname(name)}`;
  await writeFile(join(out, path), content);
  names.set(name, `/${path}`);
  return `/${path}`;
}

async function bundle(name, define = {}) {
  const { outputFiles } = await build({
    entryPoints: [src(name)],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: ['es2022', 'safari16'],
    legalComments: 'none',
    define,
    outdir: out,
    absWorkingDir: here,
    logLevel: 'warning',
  });
  await emit(name, outputFiles[0].contents);
}

const withoutMap = (text) => text.replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n');
const worker = await readFile(join(hlsRoot, 'dist', 'hls.worker.js'), 'utf8');
const workerPath = await emit('hls.worker.js', withoutMap(worker));
await emit('favicon.svg', await readFile(src('favicon.svg')));
await bundle('page.css');
await bundle('home.js');
await bundle('sign-in.js');
await bundle('go-live.js');
await bundle('watch.js', { MILLRACE_WORKER: JSON.stringify(workerPath) });

const wheel = (await readFile(src('wheel.svg'), 'utf8')).trim();
for (const page of ['index.html', 'watch.html', 'sign-in.html', 'go-live.html']) {
  const source = await readFile(src(page === 'index.html' ? 'home.html' : page), 'utf8');
  const html = source.replace(/\{\{([\w.-]+)\}\}/g, (_match, name) => {
    if (name === 'wheel') return wheel;
    if (!names.has(name)) throw new Error(`${page} names ${name}, which was not built`);
    return names.get(name);
  });
  await writeFile(join(out, page), html);
}

// The licence of what is in the bundle travels with it.
const licence = await readFile(join(hlsRoot, 'LICENSE'), 'utf8');
await writeFile(join(out, 'licenses.txt'), `hls.js ${hlsVersion}\n\n${licence}`);

await rm(dist, { recursive: true, force: true });
await rename(out, dist);
