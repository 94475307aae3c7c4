// `npm run bench` times semiflow's kernels; `npm run bench -- --peers` sets them beside other engines.
await import(process.argv.includes('--peers') ? './peers.js' : './kernels.js');
