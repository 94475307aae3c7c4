/**
 * Whether every case runs that compiles kernels for long: `FULL=1 npm test`. Without it fewer cases stand for each kind,
 * since software Vulkan compiles for minutes where its cache is cold.
 */
export const full = process.env.FULL === '1';
if (!full) console.log('fewer of the cases that compile for long: FULL=1 runs all of them');
