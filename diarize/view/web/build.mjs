// Bundles main.js, page.css and page.html into ../bundle, with the licences of what is in it.
//
//     node build.mjs [FOLDER]
//
// The first line of page.js names the sources it was made of, by their SHA-256.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url).pathname;
const folder = process.argv[2] ?? `${here}../bundle`;

const sources = readdirSync(here).filter((name) => /\.(js|mjs|css|html|json)$/.test(name)).sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(`${name}\0`).update(readFileSync(here + name)).update("\0");

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["main.js", "page.css"],
  outdir: folder,
  bundle: true,
  minify: true,
  target: ["chrome111", "firefox113", "safari16.4"],
  legalComments: "none",
  metafile: true,
  write: false,
}).then((result) => {
  mkdirSync(folder, { recursive: true });
  for (const file of result.outputFiles) {
    const name = file.path.endsWith(".css") ? "page.css" : "page.js";
    const text = name === "page.js" ? `${banner(result.metafile)}\n${file.text}` : file.text;
    writeFileSync(`${folder}/${name}`, text);
  }
  return result;
});
writeFileSync(`${folder}/page.html`, readFileSync(`${here}page.html`));
console.log(`${folder}: ${Object.keys(metafile.inputs).length} files bundled`);

function banner(metafile) {
  const paths = Object.keys(metafile.inputs).map((path) => /node_modules\/([^/]+)/.exec(path)?.[1]);
  const byLicence = new Map();
  for (const name of [...new Set(paths)].filter(Boolean).sort()) {
    const root = `${here}node_modules/${name}`;
    const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));
    const text = readFileSync(`${root}/LICENSE`, "utf8").trim();
    byLicence.set(text, [...(byLicence.get(text) ?? []), `${name} ${version}`]);
  }
  const notices = [...byLicence].map(([text, names]) => `${names.join(", ")}:\n\n${text}\n`);
  return `/*! sources ${hash.digest("hex")}\n\n${notices.join("\n")}*/`;
}
