/** The worker: owns the device, answers calls. */
import './jitless.js';
import { indexedDbStore, openDevice, readChoices, SemiflowError, type Device } from '../../index.js';
import { Distillation } from './distil.js';
import { fill, picture, rounds } from './edit.js';
import { Models } from './models.js';
import { open } from './open.js';
import { violations, walk } from './operator.js';
import { sample } from './sample.js';
import type { CallName, Calls, FromWorker, ToWorker } from '../protocol.js';

/** What a call is answered with: its input, whoever hears of parts, and a signal that ends it. */
export type Answer<Name extends CallName> = (
  input: Calls[Name]['input'],
  tell: (part: Calls[Name]['part']) => void,
  signal: AbortSignal,
) => Promise<Calls[Name]['result']>;

let device: Device;
let models: Models;
let distillation: Distillation;

const answers: { readonly [Name in CallName]: Answer<Name> } = {
  start: async () => {
    device = await openDevice({
      choices: (profile) => readChoices(indexedDbStore('semiflow'), profile),
      onFailure: (message) => send({ lost: message }),
    });
    const { description, vendor, architecture, software } = device.profile;
    models = new Models(device);
    distillation = new Distillation(device, models);
    const adapter = description || [vendor, architecture].filter(Boolean).join(' ');
    return { adapter, software, families: models.families };
  },
  family: (id) => models.family(id),
  sample: (request, tell, signal) => sample(models, request, tell, signal),
  walk: (request, tell, signal) => walk(models, request, tell, signal),
  violations: (subject, tell, signal) => violations(models, subject, tell, signal),
  picture: (subject) => picture(models, subject),
  fill: (request, tell, signal) => fill(models, request, tell, signal),
  rounds: (request, tell, signal) => rounds(models, request, tell, signal),
  open: ({ file, description }) => open(models, file, description),
  distilShare: () => distillation.share(),
  distilMenu: async () => distillation.menu(),
  distilKnobs: async (method) => distillation.knobs(method),
  distilTeach: ({ data, steps }, tell) => distillation.teach(data, steps, tell),
  distilEnough: async () => distillation.stopTeaching(),
  distilBegin: ({ knobs, teacher, file }) => distillation.begin(knobs, teacher, file),
  distilTurn: (knobs) => distillation.turn(knobs),
  distilRun: (_, tell) => distillation.run(tell),
  distilPause: async () => distillation.pause(),
  distilFile: () => distillation.file(),
};

const send = (message: FromWorker): void => self.postMessage(message);

const running = new Map<number, AbortController>();

self.addEventListener('message', ({ data }: MessageEvent<ToWorker>) => {
  if ('cancel' in data) running.get(data.cancel)?.abort();
  else void answer(data.id, data.name, data.input);
});

async function answer<Name extends CallName>(id: number, name: Name, input: Calls[Name]['input']): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const result = await answers[name](input, (part) => send({ id, part }), controller.signal);
    send({ id, result });
  } catch (error) {
    send({ id, failure: controller.signal.aborted ? 'cancelled' : saidOf(error) });
  } finally {
    running.delete(id);
  }
}

/** What people can mend in its own words; all else is a fault of ours. */
function saidOf(error: unknown): string {
  if (error instanceof SemiflowError) return error.message;
  console.error(error);
  return `a fault of semiflow: ${error instanceof Error ? error.message : String(error)}`;
}
