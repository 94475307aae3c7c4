import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { driverMend, isLinked, vulkanDrivers } from '../node/vulkan.js';
import { undoApt } from '../scripts/apt.js';

let root: string;
beforeEach(() => void (root = mkdtempSync(join(tmpdir(), 'semiflow-doctor-'))));
afterEach(() => rmSync(root, { recursive: true }));

const write = (path: string, text: string) => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
  return join(root, path);
};
const manifest = (library: string) => JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: library } });
const machine = (env: Record<string, string> = {}) => ({ env: { XDG_DATA_HOME: join(root, 'home'), ...env }, root });

describe('what the doctor sees of a machine', () => {
  it('a bare one has neither loader nor drivers', () => {
    expect(isLinked('libvulkan.so.1', machine())).toBe(false);
    expect(vulkanDrivers(machine())).toEqual([]);
  });

  it('the loader, wherever the linker finds it', () => {
    write('etc/ld.so.cache', 'glibc-ld.so.cache1.1\0libvulkan.so.1\0/usr/lib/libvulkan.so.1\0');
    expect(isLinked('libvulkan.so.1', machine())).toBe(true);
    expect(isLinked('libvulkan.so', machine())).toBe(false);
    write('usr/lib/libown.so', '');
    write('elsewhere/libother.so', '');
    expect(isLinked('libown.so', machine())).toBe(true);
    expect(isLinked('libother.so', machine())).toBe(false);
    expect(isLinked('libother.so', machine({ LD_LIBRARY_PATH: join(root, 'elsewhere') }))).toBe(true);
  });

  it('drivers by their manifests, with those whose library is gone or that cannot be read', () => {
    write('usr/lib/liblvp.so', '');
    const beside = write('usr/share/vulkan/icd.d/beside.json', manifest('../../../lib/liblvp.so'));
    const bare = write('usr/share/vulkan/icd.d/lvp.json', manifest('liblvp.so'));
    const gone = write('etc/vulkan/icd.d/gone.json', manifest('/nowhere/libgone.so'));
    const broken = write('home/vulkan/icd.d/broken.json', '{"ICD": ');
    write('usr/share/vulkan/icd.d/notes.txt', 'no manifest');
    const found = Object.fromEntries(vulkanDrivers(machine()).map(({ manifest: path, there }) => [path, there]));
    expect(found).toEqual({ [beside]: true, [bare]: true, [gone]: false, [broken]: false });
    expect(vulkanDrivers(machine({ VK_DRIVER_FILES: bare })).map((driver) => driver.manifest)).toEqual([bare]);
    expect(vulkanDrivers(machine({ VK_ICD_FILENAMES: '/none' }))).toEqual([
      { manifest: '/none', library: '', there: false },
    ]);
  });

  it('names the command that brings a driver, by the system', () => {
    const of = (release: string) => driverMend('linux', release);
    expect(of('ID=debian\nVERSION_CODENAME=bookworm\n')).toContain('-t bookworm-backports libvulkan1');
    expect(of('ID=debian\nVERSION_CODENAME=trixie\n')).toMatch(/apt-get install libvulkan1 mesa-vulkan-drivers$/);
    expect(of('ID=linuxmint\nID_LIKE="ubuntu debian"\n')).toContain('apt-get install libvulkan1');
    expect(of('ID="rocky"\nID_LIKE="rhel centos fedora"\n')).toContain('dnf install');
    expect(of('ID=cachyos\nID_LIKE=arch\n')).toContain('pacman -S');
    expect(of('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n')).toContain('zypper install');
    expect(of('')).toContain('Vulkan loader');
    expect(driverMend('darwin', '')).not.toContain('apt');
  });

  it('takes an added apt source back, once', () => {
    const file = write('added.sources', 'Types: deb\n');
    expect(undoApt(file)).toContain(`removed ${file}`);
    expect(undoApt(file)).toMatch(/nothing to take back/);
  });
});
