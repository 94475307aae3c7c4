import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { stringify } from 'yaml';
import { readTextFile } from '../node/files.js';
import { folderStore } from '../node/folder.js';
import { ofFirst } from '../src/gpu/group.js';
import { SharedFigures } from '../trainers/evaluation/shared.js';
import { runStudy, studyFiles, studyRuns, studySchema, type StudyRun } from '../trainers/study.js';
import { called } from './called.js';
import { readClassifier } from './classifier.js';
import { check, parseYaml, type Locate } from './config.js';
import { printTables } from './print.js';
import { openSession, type DeviceFlags } from './session.js';
import { orShipped } from './shipped.js';
import { carryOut, evaluateAgain, prepare, reopen } from './train.js';
import { watchIf } from './watch.js';

/** `semiflow study`: trains every recipe with every seed, each in a run folder of its own, and tabulates them. */
export async function study(path: string, flags: DeviceFlags & { out?: string; watch?: number | true }): Promise<void> {
  const { tree, locate } = parseYaml(await readTextFile(path), path);
  const plan = check(studySchema, tree, (key, ofName) => `${path}${locate(key, ofName)}`);
  const out = flags.out ?? join('runs', basename(path).replace(/\.ya?ml$/, ''));
  const { arch, data, common } = plan;
  const teacher = plan.teacher && orShipped(plan.teacher);
  const folderOf = (run: StudyRun) => join(out, run.path);
  /** A key of a run's recipe stands in that recipe, or else in what is common to all. */
  const locateIn =
    (name: string): Locate =>
    (key, ofName) =>
      `${locate(isThere(common, key) ? ['common', ...key] : ['recipes', name, ...key], ofName)}, recipe ${name}`;
  const prepareRun = (run: StudyRun) =>
    prepare(
      { teacher, arch, data, out: folderOf(run) },
      { name: path, text: stringify(run.recipe), locate: locateIn(run.name) },
    );
  // All recipes are checked before the first is trained.
  for (const run of studyRuns(plan)) await prepareRun(run);
  const classifier = plan.features ? await readClassifier(orShipped(plan.features), plan.featuresArch) : undefined;

  const device = await openSession(flags);
  const watch = await watchIf(flags.watch, device, {
    folder: out,
    runs: studyRuns(plan).map(({ path: run }) => run),
    files: studyFiles,
  });
  const shared = new SharedFigures();
  const { group } = device;
  const train = async (run: StudyRun): Promise<boolean> => {
    const folder = folderOf(run);
    const resume = await ofFirst(group, existsSync(join(folder, 'config.yaml')));
    const options = { ...flags, densities: false };
    const wishes = { shared, classifier };
    // What was trained before is not compiled again to be judged.
    if (resume && (await evaluateAgain(device, folder, options, wishes))) return true;
    const prepared = resume ? await reopen(folder) : await prepareRun(run);
    return Boolean(await carryOut(device, prepared, { ...options, ...(resume && { resume: folder }) }, wishes));
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
    onRun: ({ name, seed }, number, of) => console.log(`\n${name}, seed ${seed}: run ${number} of ${of}`),
    carryOut: async (run) => {
      await ofFirst<StudyRun | null>(group, run);
      return train(run);
    },
  });
  await ofFirst<StudyRun | null>(group, null);
  device.dispose();
  await watch?.end();
  if (!result) {
    console.log(`go on with: ${called} study ${path}${flags.out ? ` --out ${flags.out}` : ''}`);
    return;
  }
  printTables([result.table]);
  console.log(`\ntable   ${join(out, 'study.md')}\nreport  ${join(out, 'study.html')}`);
}

/** Whether a tree has a key, however deep. */
const isThere = (tree: unknown, key: readonly PropertyKey[]): boolean =>
  key.length === 0 ||
  (typeof tree === 'object' &&
    tree !== null &&
    Object.hasOwn(tree, key[0]) &&
    isThere((tree as Record<PropertyKey, unknown>)[key[0]], key.slice(1)));
