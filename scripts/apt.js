// What apt brings: Mesa's software Vulkan (lavapipe), and for CI what tests compare with and run in. Dawn refuses Debian
// 12's own Mesa 22.3, so there it comes from backports, by the mirror and key that the machine's apt sources already name:
// no host is written here.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { run, say, SetupError } from './shell.js';

const mesaPackages = ['libvulkan1', 'mesa-vulkan-drivers'];
const oldestMesa = 24;
const backportsFile = '/etc/apt/sources.list.d/semiflow-backports.sources';
/** The variable of the environment that, set, keeps the set-up from installing anything by apt or changing its sources. */
const forbidden = 'SEMIFLOW_NO_APT';
const aptOptions = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
const aptEnv = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
const updating = { env: aptEnv, doing: 'apt-get update' };
const installing = { env: aptEnv, doing: 'apt-get install' };

/**
 * An apt source, from either format. `fields` are the remaining deb822 fields (Signed-By, Check-Valid-Until…), kept as is.
 * @typedef {{types: string[], uris: string[], suites: string[], components: string[], fields: [string, string][]}} AptSource
 */

const words = (/** @type {string | undefined} */ text) => (text ?? '').split(/\s+/).filter(Boolean);

/**
 * The enabled sources of a deb822 `*.sources` file.
 * @param {string} text
 * @returns {AptSource[]}
 */
export function parseDeb822(text) {
  const uncommented = text.replace(/\r/g, '').replace(/^#.*\n?/gm, '');
  return uncommented.split(/\n(?:[ \t]*\n)+/).flatMap((stanza) => {
    /** @type {[string, string][]} */
    const fields = [];
    for (const line of stanza.split('\n')) {
      const field = /^([^\s:]+):[ \t]*(.*)$/.exec(line);
      if (field) fields.push([field[1], field[2]]);
      else if (/^[ \t]+\S/.test(line) && fields.length > 0) fields[fields.length - 1][1] += `\n${line}`;
    }
    const take = (/** @type {string} */ name) => {
      const at = fields.findIndex(([key]) => key.toLowerCase() === name);
      return at < 0 ? undefined : fields.splice(at, 1)[0][1];
    };
    if (/^(no|false|0|off|without|disable)$/i.test(take('enabled')?.trim() ?? '')) return [];
    const source = {
      types: words(take('types')),
      uris: words(take('uris')),
      suites: words(take('suites')),
      components: words(take('components')),
      fields,
    };
    return source.uris.length > 0 ? [source] : [];
  });
}

/** deb822 names of the one-line options that are called otherwise there. @type {Record<string, string>} */
const longNames = { arch: 'Architectures', lang: 'Languages', target: 'Targets' };

/**
 * The sources of a one-line-style `*.list` file.
 * @param {string} text
 * @returns {AptSource[]}
 */
export function parseList(text) {
  return text.split('\n').flatMap((line) => {
    const entry = /^\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)/.exec(line);
    if (!entry) return [];
    const [, type, options, uri, suite, components] = entry;
    const fields = words(options).flatMap((option) => {
      const [, name, value] = /^([\w-]*\w)=(.+)$/.exec(option) ?? [];
      if (!name) return [];
      const title = name.replace(/(^|-)\w/g, (letter) => letter.toUpperCase());
      return [/** @type {[string, string]} */ ([longNames[name.toLowerCase()] ?? title, value.replaceAll(',', ' ')])];
    });
    return [{ types: [type], uris: [uri], suites: [suite], components: words(components), fields }];
  });
}

/**
 * The text of a `.sources` file that adds a release's backports, from the source that serves the release itself.
 * @param {AptSource[]} sources
 * @param {string} codename of the Debian release, e.g. `bookworm`
 * @returns {string | undefined} '' when backports are there already; undefined when no source serves the release
 */
export function backportsSource(sources, codename) {
  const binary = sources.filter(({ types, components }) => types.includes('deb') && components.includes('main'));
  const serves = (/** @type {AptSource} */ source, /** @type {string} */ suite) => source.suites.includes(suite);
  if (binary.some((source) => serves(source, `${codename}-backports`))) return '';
  const release = binary.filter((source) => serves(source, codename) && !source.uris[0].startsWith('cdrom:'));
  // Other vendors name suites after the release too; only Debian's own mirror has the updates beside it.
  const updated = new Set(binary.filter((source) => serves(source, `${codename}-updates`)).flatMap(({ uris }) => uris));
  const source = release.find(({ uris }) => uris.some((uri) => updated.has(uri))) ?? release[0];
  if (!source) return undefined;
  const fields = [
    ['Types', 'deb'],
    ['URIs', source.uris.join(' ')],
    ['Suites', `${codename}-backports`],
    ['Components', 'main'],
    ...source.fields,
  ];
  return fields.map(([name, value]) => `${name}:${value.startsWith('\n') ? '' : ' '}${value}\n`).join('');
}

/** @returns {AptSource[]} of this machine */
function machineSources() {
  const folder = '/etc/apt/sources.list.d';
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  return ['/etc/apt/sources.list', ...names.map((name) => `${folder}/${name}`)].filter(existsSync).flatMap((path) => {
    if (path.endsWith('.sources')) return parseDeb822(readFileSync(path, 'utf8'));
    return path.endsWith('.list') ? parseList(readFileSync(path, 'utf8')) : [];
  });
}

/** Mesa's version that apt would install, e.g. `25.0.7-2`; undefined when it knows none. */
function mesaCandidate(/** @type {string[]} */ target) {
  const { stdout } = run('apt-cache', [...target, 'policy', 'mesa-vulkan-drivers'], { env: aptEnv });
  const version = /^\s*Candidate:\s*(?:\d+:)?(\d\S*)/m.exec(stdout)?.[1];
  return version ? { text: version, major: Number.parseInt(version, 10) } : undefined;
}

/** Makes `<codename>-backports` known to apt, and takes the new file away again if it does not bring a usable Mesa. */
function enableBackports(/** @type {string} */ codename) {
  const target = ['-t', `${codename}-backports`];
  const entry = backportsSource(machineSources(), codename);
  const byHand = `install mesa-vulkan-drivers ${oldestMesa} or later from ${codename}-backports by hand`;
  if (entry === undefined) throw new SetupError(`no apt source of this machine serves ${codename}: ${byHand}`);
  if (entry === '') return target;
  say(
    `adding ${codename}-backports to the apt sources (${backportsFile}); \`semiflow doctor --undo\` takes it back, ${forbidden}=1 forbids it`,
  );
  writeFileSync(
    backportsFile,
    `# Added by the set-up of semiflow: \`semiflow doctor --undo\` takes it away.\n${entry}`,
  );
  const only = ['-o', `Dir::Etc::sourcelist=${backportsFile}`, '-o', 'Dir::Etc::sourceparts=-'];
  const update = run('apt-get', ['update', ...aptOptions, ...only, '-o', 'APT::Get::List-Cleanup=0'], updating);
  const mesa = update.ok ? mesaCandidate(target) : undefined;
  if (mesa && mesa.major >= oldestMesa) return target;
  rmSync(backportsFile);
  const found = update.ok ? `has no Mesa ${oldestMesa} or later (found ${mesa?.text ?? 'none'})` : 'cannot be read';
  const cause = `${codename}-backports of this machine's apt mirror ${found}`;
  throw new SetupError(`${cause}: ${byHand}${update.ok ? '' : `\n  apt-get update: ${update.why}`}`);
}

/**
 * Installs the Vulkan loader and Mesa's drivers.
 * @throws SetupError when that cannot be done here; the message says what to install
 */
export function installMesa() {
  const none = 'no GPU driver that Dawn accepts was found';
  if (process.platform !== 'linux') throw new SetupError(`${none}: install this system's current graphics driver`);
  const byHand = `${none}: install a Vulkan driver, e.g. Mesa ${oldestMesa} or later (lavapipe is its software one)`;
  if (!run('apt-get', ['--version']).ok) throw new SetupError(`${byHand}, with this system's package manager`);
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  const codename = /^VERSION_CODENAME="?([a-z]+)/m.exec(release)?.[1];
  const isDebian = /^ID="?debian"?$/m.test(release);
  if (process.getuid?.() !== 0 || process.env[forbidden]) {
    const target = isDebian && codename === 'bookworm' ? `-t ${codename}-backports ` : '';
    throw new SetupError(`${byHand}, as root: apt-get install ${target}${mesaPackages.join(' ')}`);
  }
  say(`${none}: installing Mesa's software driver (lavapipe) by apt; ${forbidden}=1 forbids it`);
  const update = run('apt-get', ['update', ...aptOptions], updating);
  const mesa = mesaCandidate([]);
  // A broken source of another vendor fails the update as a whole; what counts is whether Mesa can be had.
  if (!mesa) throw new SetupError(`apt has no mesa-vulkan-drivers: mend its sources\n  apt-get update: ${update.why}`);
  const target = isDebian && codename && mesa.major < oldestMesa ? enableBackports(codename) : [];
  const flags = ['-y', '--no-install-recommends', ...aptOptions, ...target];
  const install = run('apt-get', ['install', ...flags, ...mesaPackages], installing);
  if (!install.ok)
    throw new SetupError(`apt-get install ${target.join(' ')} ${mesaPackages.join(' ')}: ${install.why}`);
}

/**
 * Takes back what was added to the apt sources.
 * @param {string} [file] that was added
 * @returns {string} what was done, in a line
 * @throws SetupError where this user may not
 */
export function undoApt(file = backportsFile) {
  if (!existsSync(file)) return 'nothing to take back: no apt source was added';
  try {
    rmSync(file);
  } catch {
    throw new SetupError(`${file} can be removed by root alone: as root, rm ${file}`);
  }
  return `removed ${file}; packages stay, which as root \`apt-get remove ${mesaPackages.join(' ')}\` takes away`;
}

/** What some tests need and skip without: its package and how to see that it is there. */
const testTools = [
  { packages: ['python3-torch', 'libopenblas0'], there: () => run('/usr/bin/python3', ['-c', 'import torch']).ok },
  { packages: ['chromium'], there: () => existsSync('/usr/bin/chromium') },
  { packages: ['openmpi-bin'], there: () => run('mpirun', ['--version']).ok },
];

/** Installs PyTorch to compare with, a browser and an MPI; says why where that cannot be done, as the tests can be skipped. */
export function installTestTools() {
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || process.env[forbidden]) return;
  const missing = testTools.filter(({ there }) => !there());
  if (missing.length) run('apt-get', ['update', ...aptOptions], updating);
  for (const { packages } of missing) {
    say(`installing ${packages.join(', ')} by apt, which tests need`);
    const flags = ['-y', '--no-install-recommends', ...aptOptions];
    const install = run('apt-get', ['install', ...flags, ...packages], installing);
    if (!install.ok) say(`${packages[0]} could not be installed, so its tests are skipped: ${install.why}`);
  }
}
