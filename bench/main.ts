// `npm run bench` times semiflow's kernels; `-- --peers` sets them beside other engines, `-- --steps` measures what a step
// costs besides its kernels, `-- --tracing` counts what one is made of, `--exchange` times what several ranks
// give each other, `--scaling` says what that leaves of many devices on paper.
const what =
  ['peers', 'steps', 'tracing', 'exchange', 'scaling'].find((name) => process.argv.includes(`--${name}`)) ?? 'kernels';
await import(`./${what}.js`);
