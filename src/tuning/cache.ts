import { fingerprint } from '../files/fingerprint.js';
import { readText, type Files, type Store } from '../files/store.js';
import type { Choices, Profile } from '../gpu/profile.js';
import { version } from '../version.js';

/** What choices hold for: another adapter, driver or version has its own. */
interface Origin {
  version: string;
  vendor: string;
  architecture: string;
  /** Names the adapter and its driver's version. */
  description: string;
}

const originOf = ({ vendor, architecture, description }: Profile): Origin => ({
  version,
  vendor,
  architecture,
  description,
});

const fileOf = async (profile: Profile) =>
  `choices-${(await fingerprint([JSON.stringify(originOf(profile))])).slice(0, 16)}.json`;

/** What `tune` found on this adapter with this driver and version of semiflow; none where nothing is kept, or damaged. */
export const readChoices = async (files: Files, profile: Profile): Promise<Choices> =>
  (await found(files, profile)) ?? {};

/** Whether there is such a file. */
export const wereMeasured = async (files: Files, profile: Profile): Promise<boolean> =>
  (await found(files, profile)) !== null;

async function found(files: Files, profile: Profile): Promise<Choices | null> {
  const text = await readText(files, await fileOf(profile)).catch(() => null);
  const { choices, ...origin } = (text === null ? {} : parsed(text)) as Partial<Origin & { choices: Choices }>;
  return sameOrigin(origin, originOf(profile)) && isChoices(choices) ? choices : null;
}

/** Keeps what `tune` found. @returns the file's name in the store */
export async function keepChoices(store: Store, profile: Profile, choices: Choices): Promise<string> {
  const name = await fileOf(profile);
  await store.write(name, `${JSON.stringify({ ...originOf(profile), choices }, null, 1)}\n`);
  return name;
}

function parsed(text: string): object {
  try {
    const tree: unknown = JSON.parse(text);
    return tree && typeof tree === 'object' ? tree : {};
  } catch {
    return {};
  }
}

const sameOrigin = (a: Partial<Origin>, b: Origin) =>
  (Object.keys(b) as (keyof Origin)[]).every((key) => a[key] === b[key]);

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isChoices = (value: unknown): value is Choices =>
  isRecord(value) &&
  Object.values(value).every(
    (candidate) => isRecord(candidate) && Object.values(candidate).every((number) => typeof number === 'number'),
  );
