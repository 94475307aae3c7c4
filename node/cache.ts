import { homedir } from 'node:os';
import { join } from 'node:path';

/** The folder for what can be made anew at any time, as the platform has it; SEMIFLOW_CACHE names another one. */
export function cacheFolder(): string {
  const { SEMIFLOW_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (SEMIFLOW_CACHE) return SEMIFLOW_CACHE;
  if (process.platform === 'win32' && LOCALAPPDATA) return join(LOCALAPPDATA, 'semiflow');
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'semiflow');
  return join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'semiflow');
}
