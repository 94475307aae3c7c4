import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { stringify } from 'yaml';
import { readTextFile } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { ofFirst } from '../src/gpu/group.js';
import { runStudy, studyRuns, studySchema, type StudyRun } from '../trainers/study.js';
import { check, parseYaml } from './config.js';
import { printTables } from './print.js';
import { openSession, type DeviceFlags } from './session.js';
import { carryOut, prepare, reopen } from './train.js';

/** `semiflow study`: trains every recipe with every seed, each in a run folder of its own, and tabulates them. */
export async function study(path: string, flags: DeviceFlags & { out?: string }): Promise<void> {
  const { tree, locate } = parseYaml(await readTextFile(path), path);
  const plan = check(studySchema, tree, (key) => `${path}${locate(key)}`);
  const out = flags.out ?? join('runs', basename(path).replace(/\.ya?ml$/, ''));
  const { teacher, arch, data } = plan;
  const folderOf = (run: StudyRun) => join(out, run.path);
  const prepareRun = (run: StudyRun) =>
    prepare(
      { teacher, arch, data, out: folderOf(run) },
      { name: `${path}, recipe ${run.name}`, text: stringify(run.recipe) },
    );
  // All recipes are checked before the first is trained.
  for (const run of studyRuns(plan)) await prepareRun(run);

  const device = await openSession(flags);
  const { group } = device;
  const train = async (run: StudyRun): Promise<boolean> => {
    const folder = folderOf(run);
    const resume = await ofFirst(group, existsSync(join(folder, 'config.yaml')));
    const prepared = resume ? await reopen(folder) : await prepareRun(run);
    return Boolean(await carryOut(device, prepared, { ...flags, densities: false, ...(resume && { resume: folder }) }));
  };
  if (group.rank) {
    // The first rank knows which runs are left.
    const next = () => ofFirst<StudyRun | null>(group, null);
    for (let run = await next(); run && (await train(run)); run = await next());
    return device.dispose();
  }
  const result = await runStudy(plan, {
    title: basename(path),
    store: folderStore(out),
    text: stringify(plan),
    onRun: ({ name, seed }) => console.log(`\n${name}, seed ${seed}`),
    carryOut: async (run) => {
      await ofFirst<StudyRun | null>(group, run);
      return train(run);
    },
  });
  await ofFirst<StudyRun | null>(group, null);
  device.dispose();
  if (!result) {
    console.log(`go on with: semiflow study ${path}${flags.out ? ` --out ${flags.out}` : ''}`);
    return;
  }
  printTables([result.table]);
  console.log(`\ntable   ${join(out, 'study.md')}\nreport  ${join(out, 'study.html')}`);
}
