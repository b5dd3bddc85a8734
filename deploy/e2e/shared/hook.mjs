// A webhook's other end: verifies each signature as Standard Webhooks has it and
// prints a line an event. The first request is answered 500, to be told again.
// usage: hook.mjs PORT SECRET-FILE
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const [port, file] = process.argv.slice(2);
const secret = Buffer.from(readFileSync(file, "utf8").trim().replace(/^whsec_/, ""), "base64");
let refused = null;

const signed = (headers, body) => {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": given = "" } = headers;
  const expected = createHmac("sha256", secret).update(`${id}.${at}.${body}`).digest();
  const fresh = Math.abs(Date.now() / 1000 - Number(at)) < 60;
  const fits = (one) => {
    const got = Buffer.from(one.replace(/^v1,/, ""), "base64");
    return got.length === expected.length && timingSafeEqual(got, expected);
  };
  return fresh && given.split(" ").some(fits);
};

createServer((request, response) => {
  let body = "";
  request.on("data", (data) => (body += data));
  request.on("end", () => {
    const id = request.headers["webhook-id"];
    const { type, data } = JSON.parse(body);
    const word = signed(request.headers, body) ? "signed" : "FORGED";
    if (refused === null) {
      refused = id;
      console.log(`refused ${word} ${type} ${data.channel}`);
      response.writeHead(500).end();
      return;
    }
    const again = id === refused ? " again" : "";
    console.log(`took ${word} ${type} ${data.channel} "${data.title}"${again}`);
    response.writeHead(204).end();
  });
}).listen(Number(port), "127.0.0.1", () => console.log("listening"));
