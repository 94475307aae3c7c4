// `npm run bench` times semiflow's kernels; `-- --peers` sets them beside other engines, `-- --steps` measures what a step
// costs besides its kernels, `-- --tracing` counts what one is made of.
const what = ['peers', 'steps', 'tracing'].find((name) => process.argv.includes(`--${name}`)) ?? 'kernels';
await import(`./${what}.js`);
