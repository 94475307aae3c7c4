/** A failure the user can mend: its message is one line that names the cause and the mend. The CLI prints it and exits 2. */
export class UserError extends Error {
  override name = 'UserError';
}

/** Training met a NaN or infinite loss: the message names the step and the last good checkpoint. The CLI exits 3. */
export class DivergenceError extends Error {
  override name = 'DivergenceError';
}
