/** How people call this program where it runs: by npm, in a clone or a project, no shell knows it by its name alone. */
export const called = process.env.npm_command ? 'npx semiflow' : 'semiflow';
