import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backportsSource, parseDeb822, parseList } from '../scripts/apt.js';
import { embedKernels } from '../scripts/embed-kernels.js';
import { isNodeSupported, packagesMatch, readStamp, readyKey, writeStamp } from '../scripts/setup.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'semiflow-setup-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (path: string, text: string) => {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
};

describe('apt sources', () => {
  const deb822 = `# written by the installer
Types: deb deb-src
# URIs: http://old.example/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`;

  it('derives backports from a deb822 file: same mirror, same key', () => {
    expect(backportsSource(parseDeb822(deb822), 'bookworm')).toBe(`Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`);
  });

  it('keeps an embedded key, Windows line ends and a snapshot that must not expire', () => {
    const text = `Types: deb\r
URIs:\r
 http://snapshot.example/archive/debian/20260101T000000Z\r
Suites: bookworm\r
Components: main\r
Check-Valid-Until: no\r
Signed-By:\r
 -----BEGIN PGP PUBLIC KEY BLOCK-----\r
 .\r
 mDMEY865UxYJKwYBBAHaRw8BAQdA\r
 -----END PGP PUBLIC KEY BLOCK-----\r
`;
    expect(backportsSource(parseDeb822(text), 'bookworm')).toBe(`Types: deb
URIs: http://snapshot.example/archive/debian/20260101T000000Z
Suites: bookworm-backports
Components: main
Check-Valid-Until: no
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdA
 -----END PGP PUBLIC KEY BLOCK-----
`);
  });

  it('derives backports from the one-line format, options included', () => {
    const text = `#deb cdrom:[Debian GNU/Linux 12 _Bookworm_]/ bookworm main
deb-src http://sources.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/etc/keys/a.gpg check-valid-until=no] http://mirror.example/debian/ bookworm main # own
deb http://mirror.example/debian-security bookworm-security main
`;
    expect(backportsSource(parseList(text), 'bookworm')).toBe(`Types: deb
URIs: http://mirror.example/debian/
Suites: bookworm-backports
Components: main
Architectures: amd64 arm64
Signed-By: /etc/keys/a.gpg
Check-Valid-Until: no
`);
  });

  it("prefers Debian's own mirror to another vendor's suite of the same name", () => {
    const text = `deb https://vendor.example/debian/12/prod bookworm main
deb http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
`;
    expect(backportsSource(parseList(text), 'bookworm')).toContain('URIs: http://mirror.example/debian\n');
  });

  it('sees backports that are there, unless they are disabled', () => {
    const stanza = deb822.replace('bookworm bookworm-updates', 'bookworm-backports');
    const both = [...parseList('deb http://mirror.example/debian bookworm main'), ...parseDeb822(stanza)];
    expect(backportsSource(both, 'bookworm')).toBe('');
    const off = parseDeb822(`Enabled: no\n${stanza.split('\n').slice(1).join('\n')}`);
    const without = [...parseList('deb http://mirror.example/debian bookworm main'), ...off];
    expect(backportsSource(without, 'bookworm')).toContain('bookworm-backports');
  });

  it('finds nothing in sources that do not serve the release', () => {
    expect(backportsSource([], 'bookworm')).toBeUndefined();
    expect(backportsSource(parseDeb822(deb822), 'trixie')).toBeUndefined();
    expect(backportsSource(parseList('deb http://vendor.example/x bookworm stable'), 'bookworm')).toBeUndefined();
    expect(backportsSource(parseDeb822('garbage\n\n: x\n \n'), 'bookworm')).toBeUndefined();
  });
});

it('says every few seconds what it waits for, and is silent of what is done at once', () => {
  const shell = new URL('../scripts/shell.js', import.meta.url).href;
  const script = (milliseconds: number) =>
    `import { run } from ${JSON.stringify(shell)};
    run(process.execPath, ['-e', 'setTimeout(() => {}, ${milliseconds})'], { doing: 'sleeping' });`;
  const said = (milliseconds: number) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script(milliseconds)], { encoding: 'utf8' }).stderr;
  expect(said(4500)).toMatch(/^set-up: sleeping, 3s\n/);
  expect(said(0)).toBe('');
});

describe('what is there already', () => {
  it('tells supported versions of Node', () => {
    expect(['20.19.0', '20.20.2', '22.0.0', '24.1.0'].every(isNodeSupported)).toBe(true);
    expect(['20.18.3', '18.20.4', '8.17.0'].some(isNodeSupported)).toBe(false);
  });

  it('compares node_modules with package-lock.json', () => {
    const lock = (packages: object) => JSON.stringify({ packages });
    const named = {
      '': { version: '1.0.0' },
      'node_modules/a': { version: '1.0.0' },
      'node_modules/@b/c': { version: '2.0.0' },
      'node_modules/other-platform': { version: '3.0.0', optional: true },
    };
    const { 'node_modules/a': a, 'node_modules/@b/c': c } = named;
    write('package-lock.json', lock(named));
    expect(packagesMatch(folder)).toBe(false);
    write('node_modules/.package-lock.json', lock({ 'node_modules/a': a, 'node_modules/@b/c': c }));
    write('node_modules/a/package.json', '{}');
    expect(packagesMatch(folder)).toBe(false);
    write('node_modules/@b/c/package.json', '{}');
    expect(packagesMatch(folder)).toBe(true);
    write('node_modules/.package-lock.json', lock({ 'node_modules/a': a, 'node_modules/@b/c': { version: '2.0.1' } }));
    expect(packagesMatch(folder)).toBe(false);
    write('node_modules/.package-lock.json', lock({ 'node_modules/a': a }));
    expect(packagesMatch(folder)).toBe(false);
    write('node_modules/.package-lock.json', '{"packages": {"node_mod');
    expect(packagesMatch(folder)).toBe(false);
  });

  it('keeps the found adapter until the lock file or a driver changes', () => {
    const file = join(folder, 'cache/ready.json');
    const adapter = { description: 'llvmpipe', vendor: 'mesa', architecture: 'software', software: true };
    const key = readyKey('lock', [['/usr/share/vulkan/icd.d/lvp_icd.json', 1000]]);
    expect(readStamp(file, key)).toBeUndefined();
    writeStamp(file, key, adapter);
    expect(readStamp(file, key)).toEqual(adapter);
    expect(readStamp(file, readyKey('other lock', [['/usr/share/vulkan/icd.d/lvp_icd.json', 1000]]))).toBeUndefined();
    expect(readStamp(file, readyKey('lock', [['/usr/share/vulkan/icd.d/lvp_icd.json', 1001]]))).toBeUndefined();
    expect(readStamp(file, readyKey('lock', []))).toBeUndefined();
    writeFileSync(file, '{"key": ');
    expect(readStamp(file, key)).toBeUndefined();
  });
});

describe('embedded kernels', () => {
  it('are every WGSL file by path, the same bytes whatever the order they were written in', async () => {
    const awkward = 'let a = `${b}`; // "quotes" \\ \u2028 é\n';
    write('one/matmul.wgsl', awkward);
    write('one/lib/philox.wgsl', 'fn b() {}\r\n');
    write('one/notes.txt', 'not a kernel');
    expect(embedKernels(join(folder, 'one'))).toBe(true);
    write('two/lib/philox.wgsl', 'fn b() {}\n');
    write('two/matmul.wgsl', awkward);
    expect(embedKernels(join(folder, 'two'))).toBe(true);
    const text = (name: string) => readFileSync(join(folder, name, 'sources.ts'), 'utf8');
    expect(text('two')).toBe(text('one'));
    const { sources } = await import(join(folder, 'one/sources.ts'));
    expect(sources).toEqual({ 'lib/philox': 'fn b() {}\n', matmul: awkward });
  });

  it('are written only when they changed, and nothing is left aside', () => {
    write('kernel.wgsl', 'fn a() {}\n');
    expect(embedKernels(folder)).toBe(true);
    expect(embedKernels(folder)).toBe(false);
    write('kernel.wgsl', 'fn b() {}\n');
    expect(embedKernels(folder)).toBe(true);
    rmSync(join(folder, 'kernel.wgsl'));
    expect(embedKernels(folder)).toBe(true);
    expect(readdirSync(folder)).toEqual(['sources.ts']);
  });
});
