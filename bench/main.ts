// `npm run bench` times semiflow's kernels; `-- --peers` sets them beside other engines, `-- --tiles` tries all tiles,
// `-- --steps` measures what a step costs besides its kernels.
const what = ['peers', 'tiles', 'steps'].find((name) => process.argv.includes(`--${name}`)) ?? 'kernels';
await import(`./${what}.js`);
