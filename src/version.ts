/** The package's version, which a run remembers. */
export const version = '0.1.0';
