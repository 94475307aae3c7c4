import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path';

/** A driver as its manifest names it to the Vulkan loader. */
export interface VulkanDriver {
  manifest: string;
  /** The library that it is in; empty where the manifest cannot be read. */
  library: string;
  /** Whether that library is there. */
  there: boolean;
}

/** What tells where this machine keeps drivers; tests give others. */
export interface Machine {
  env: Readonly<Record<string, string | undefined>>;
  /** Where folders begin, `/`. */
  root: string;
}

const thisMachine: Machine = { env: process.env, root: '/' };

/**
 * Whether the system's linker knows a library, such as `libvulkan.so.1`, through which Dawn finds drivers.
 * @param name without a folder
 */
export function isLinked(name: string, { env, root }: Machine = thisMachine): boolean {
  const folders = [
    ...(env.LD_LIBRARY_PATH?.split(':').filter(Boolean) ?? []),
    ...['lib', 'usr/lib', 'usr/local/lib', 'lib64', 'usr/lib64'].map((folder) => join(root, folder)),
  ];
  if (folders.some((folder) => existsSync(join(folder, name)))) return true;
  const cache = join(root, 'etc/ld.so.cache');
  return existsSync(cache) && readFileSync(cache).includes(`${name}\0`);
}

/** The drivers that the Vulkan loader would look at: those that the environment names, else those of the system's folders. */
export function vulkanDrivers(machine: Machine = thisMachine): VulkanDriver[] {
  const { env, root } = machine;
  const named = (env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES)?.split(delimiter).filter(Boolean);
  const bases = ['etc', 'usr/local/etc', 'usr/local/share', 'usr/share'].map((folder) => join(root, folder));
  const folders = [...bases, env.XDG_DATA_HOME || join(homedir(), '.local/share')]
    .map((base) => join(base, 'vulkan/icd.d'))
    .filter(existsSync);
  const manifests =
    named ??
    folders.flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => name.endsWith('.json'))
        .sort()
        .map((name) => join(folder, name)),
    );
  return manifests.map((manifest) => driverOf(manifest, machine));
}

function driverOf(manifest: string, machine: Machine): VulkanDriver {
  try {
    const { ICD } = JSON.parse(readFileSync(manifest, 'utf8')) as { ICD: { library_path: string } };
    const { library_path: library } = ICD;
    const there = isAbsolute(library)
      ? existsSync(library)
      : library.includes('/')
        ? existsSync(resolve(dirname(manifest), library))
        : isLinked(library, machine);
    return { manifest, library, there };
  } catch {
    return { manifest, library: '', there: false };
  }
}

/** Commands that install the loader and Mesa's drivers, software Vulkan among them, by the `ID` of os-release. */
const installs: Readonly<Record<string, string>> = {
  debian: 'apt-get update && apt-get install libvulkan1 mesa-vulkan-drivers',
  ubuntu: 'apt-get update && apt-get install libvulkan1 mesa-vulkan-drivers',
  fedora: 'dnf install vulkan-loader mesa-vulkan-drivers',
  rhel: 'dnf install vulkan-loader mesa-vulkan-drivers',
  arch: 'pacman -S vulkan-icd-loader vulkan-swrast',
  suse: 'zypper install libvulkan1 libvulkan_lvp',
};

/**
 * What installs a Vulkan driver here, as a command to be run as root where there is one.
 * @param release the text of /etc/os-release
 */
export function driverMend(
  platform: NodeJS.Platform = process.platform,
  release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '',
): string {
  if (platform !== 'linux') return "install this system's current graphics driver";
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1] ?? '';
  // Dawn refuses the Mesa of Debian 12 itself.
  if (field('VERSION_CODENAME') === 'bookworm' && field('ID') === 'debian')
    return 'add bookworm-backports to the apt sources, then as root: apt-get update && apt-get install -t bookworm-backports libvulkan1 mesa-vulkan-drivers';
  const id = [field('ID'), ...field('ID_LIKE').split(' ')].find((name) => Object.hasOwn(installs, name));
  return id
    ? `as root: ${installs[id]}`
    : 'install the Vulkan loader and Mesa 24 or later (lavapipe is its software driver)';
}
