// Makes a fresh clone ready to run: Node's version, the packages, the kernels' sources, a Vulkan adapter. Plain JavaScript
// without dependencies, since it runs before there are any. What is there already costs a few milliseconds to see.
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installMesa, installTestTools } from './apt.js';
import { embedKernels } from './embed-kernels.js';
import { run, say, SetupError } from './shell.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @typedef {{description: string, vendor: string, architecture: string, software: boolean}} Adapter */

/**
 * Whether a version of Node is new enough (the `engines` field).
 * @param {string} version e.g. `20.19.0`
 */
export function isNodeSupported(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > 20 || (major === 20 && minor >= 19);
}

/** A file's content; undefined where it is missing or was only half written. */
function readJson(/** @type {string} */ path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * Whether node_modules holds what package-lock.json names. Optional packages (other platforms' binaries) may lack.
 * @param {string} folder that has both
 */
export function packagesMatch(folder) {
  const installed = readJson(join(folder, 'node_modules/.package-lock.json'))?.packages;
  if (!installed) return false;
  const named = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(named).every(([path, { version, optional }]) => {
    if (path === '') return true;
    if (!installed[path]) return optional === true;
    return installed[path].version === version && existsSync(join(folder, path, 'package.json'));
  });
}

function installPackages() {
  say('installing the npm packages (npm ci)');
  const npm = process.env.npm_execpath?.endsWith('npm-cli.js') ? process.env.npm_execpath : undefined;
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const options = { cwd: root, doing: 'npm ci' };
  const done = npm ? run(process.execPath, [npm, ...args], options) : run('npm', args, options);
  if (!done.ok) throw new SetupError(`npm ci failed: ${done.why}`);
  if (!packagesMatch(root)) throw new SetupError('npm ci left packages out: delete node_modules and run it by hand');
}

/** The installed Vulkan drivers' manifests, each with its time of change. @returns {[string, number][]} */
function vulkanDrivers() {
  const data = process.env.XDG_DATA_HOME || join(homedir(), '.local/share');
  const folders = ['/etc', '/usr/local/etc', '/usr/local/share', '/usr/share', data];
  const inFolders = folders.map((base) => join(base, 'vulkan/icd.d')).filter(existsSync);
  const files = inFolders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
  const named = [process.env.VK_DRIVER_FILES, process.env.VK_ICD_FILENAMES].join(':').split(':').filter(existsSync);
  return [...files.sort(), ...named].map((path) => [path, statSync(path).mtimeMs]);
}

/**
 * What a found adapter depends on: while the key stays the same, the machine need not be probed again.
 * @param {string | Buffer} lock package-lock.json
 * @param {[string, number][]} drivers manifest files with their time of change
 */
export function readyKey(lock, drivers) {
  const machine = JSON.stringify([process.platform, process.arch, drivers]);
  return createHash('sha256').update(lock).update(machine).digest('hex');
}

/**
 * The adapter that was found under this key.
 * @param {string} file the stamp
 * @param {string} key
 * @returns {Adapter | undefined}
 */
export function readStamp(file, key) {
  const stamp = readJson(file);
  return stamp?.key === key ? stamp.adapter : undefined;
}

/** @param {string} file @param {string} key @param {Adapter} adapter */
export function writeStamp(file, key, adapter) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ key, adapter }, null, 2)}\n`);
}

/** Child process: prints the adapter that Dawn prefers, or null. */
async function probe() {
  const dawn = await import('webgpu');
  // Dawn's binding dies with this object, so it must outlive every use.
  const gpu = dawn.create([]);
  Object.assign(globalThis, { semiflowProbe: gpu });
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  const info = adapter?.info;
  const found = info && {
    description: info.description || info.device,
    vendor: info.vendor,
    architecture: info.architecture,
    software:
      info.isFallbackAdapter || /llvmpipe|swiftshader|lavapipe/i.test(`${info.description} ${info.architecture}`),
  };
  writeSync(1, `${JSON.stringify(found ?? null)}\n`);
  process.exit(0);
}

/**
 * Asks Dawn for an adapter in a child process, because a broken driver can take its process down.
 * @returns {{adapter?: Adapter, why: string}}
 */
function findAdapter() {
  const options = { cwd: root, timeout: 120_000, doing: 'looking for an adapter' };
  const done = run(process.execPath, [fileURLToPath(import.meta.url), '--probe'], options);
  try {
    return { adapter: JSON.parse(done.stdout) ?? undefined, why: done.why };
  } catch {
    return { why: done.why };
  }
}

/**
 * Installs a driver where Dawn finds no adapter.
 * @param {boolean} quiet say nothing unless something is missing
 * @throws SetupError, whose message says what to do by hand
 */
export function ensureAdapter(quiet) {
  const stamp = join(root, 'node_modules/.cache/semiflow/ready.json');
  const lock = readFileSync(join(root, 'package-lock.json'));
  let adapter = readStamp(stamp, readyKey(lock, vulkanDrivers()));
  if (!adapter) {
    ({ adapter } = findAdapter());
    if (!adapter) {
      installMesa();
      const again = findAdapter();
      if (!again.adapter) throw new SetupError(`Mesa is installed, but Dawn finds no Vulkan adapter: ${again.why}`);
      adapter = again.adapter;
    }
    writeStamp(stamp, readyKey(lock, vulkanDrivers()), adapter);
    if (adapter.software && existsSync('/dev/nvidia0'))
      say('an NVIDIA GPU is here without its Vulkan driver: in a container, add the "graphics" driver capability');
  }
  if (!quiet) say(`ready: ${adapter.description}`);
}

/**
 * Installs what is missing for semiflow to start; a driver is looked for when a device is opened.
 * @throws SetupError, whose message says what to do by hand
 */
export function ensurePackages() {
  if (!isNodeSupported(process.versions.node))
    throw new SetupError(`semiflow needs Node 20.19 or later, this is ${process.versions.node}: install a newer Node`);
  // Mesa complains on stderr when this is not set, even where there is no window system.
  process.env.XDG_RUNTIME_DIR ??= tmpdir();
  if (!packagesMatch(root)) installPackages();
  embedKernels();
}

/** Prints why the set-up failed, without a stack, and ends the process; other errors are bugs and are thrown on. */
export function exitWith(/** @type {unknown} */ error) {
  if (!(error instanceof SetupError)) throw error;
  say(error.message);
  process.exit(2);
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === '--probe') await probe();
  try {
    ensurePackages();
    // A page finds its adapter in the browser.
    if (process.argv[2] !== '--packages') ensureAdapter(false);
    if (process.argv[2] === '--tests' && process.env.CI) installTestTools();
  } catch (error) {
    exitWith(error);
  }
}
