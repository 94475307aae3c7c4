import { readWeights, writeFileAtomic, writeSafetensors } from '../node/files.js';
import { exportAdapter, type AdapterStyle } from '../src/export/adapter.js';
import { exportOnnx, type OnnxOptions } from '../src/export/onnx.js';
import { exportStateDict, loadingLines } from '../src/export/state-dict.js';
import { UserError } from '../src/errors.js';
import { guidanceOf } from '../src/flow/runner.js';
import { samplerEntry } from '../src/flow/samplers.js';
import { numberBetween } from './arguments.js';
import { readNetwork } from './networks.js';
import { checkOutput } from './output.js';
import { samplerFor, stepsFor, type SampleFlags } from './sample.js';

export interface ExportFlags extends Pick<SampleFlags, 'nfe' | 'times' | 'sampler' | 'gamma' | 'eta' | 'tolerance'> {
  model: string;
  arch?: string;
  /** Adapters folded in. */
  lora?: string[];
  to: 'onnx' | 'pytorch' | AdapterStyle;
  guidance?: string;
  out: string;
}

/** `semiflow export`: a network for other programs. */
export async function exportCommand(flags: ExportFlags): Promise<void> {
  const { model: path, to, out } = flags;
  await checkOutput(out, [to === 'onnx' ? '.onnx' : '.safetensors'], path);
  if (to === 'kohya' || to === 'peft') return exportAdapterTo(to, flags);
  const network = await readNetwork(path, flags.arch, flags.lora);
  if (to === 'pytorch') {
    const said = (['nfe', 'times', 'sampler', 'guidance'] as const).find((name) => flags[name] !== undefined);
    if (said) throw new UserError('belongs to --to onnx: a state dict is weights alone', said);
    const { tensors, metadata } = exportStateDict(network);
    await writeSafetensors(out, tensors, metadata);
    console.log(`${out}: ${network.layout.count} weights under their public names; in Python:\n`);
    console.log(loadingLines(network, out));
    return;
  }
  const options = optionsOf(flags, network);
  const { bytes, inputs } = await exportOnnx(network, options);
  await writeFileAtomic(out, bytes);
  const values = inputs.map(({ name, shape }) => `${name} [${['batch', ...shape].join(', ')}]`).join(', ');
  console.log(`${out}: ${values} → y, ${(bytes.length / 2 ** 20).toFixed(1)} MiB; in Python:\n`);
  console.log(`import onnxruntime
session = onnxruntime.InferenceSession(${JSON.stringify(out)})
y, = session.run(None, {${inputs.map(({ name }) => `"${name}": ${name}`).join(', ')}})  # float32${network.model.classes ? ', labels int64' : ''}`);
}

/** The adapter of a distillation under names that other programs read. */
async function exportAdapterTo(style: AdapterStyle, { model: path, out }: ExportFlags): Promise<void> {
  const { tensors, metadata, leftOut } = exportAdapter(await readWeights(path), style);
  await writeSafetensors(out, tensors, metadata);
  console.log(
    `${out}: ${Object.keys(tensors).length / 3} low-rank products in the style of ${style}${leftOut.length ? `; left out is what only a flow map has, ${leftOut.slice(0, 2).join(', ')}${leftOut.length > 2 ? ', …' : ''}` : ''}`,
  );
}

function optionsOf(flags: ExportFlags, network: Awaited<ReturnType<typeof readNetwork>>): OnnxOptions {
  const guidance =
    flags.guidance === undefined ? guidanceOf(network) : numberBetween('--guidance', flags.guidance, 0, 100);
  if (flags.sampler && samplerEntry(flags.sampler).measured) return { sampler: { name: flags.sampler }, steps: 1 };
  if (flags.nfe === undefined && flags.times === undefined) {
    if (flags.sampler) throw new UserError('needs --nfe or --times: steps are fixed in the file', 'sampler');
    return { guidance };
  }
  const sampler = samplerFor(flags, network);
  return { guidance, sampler, steps: stepsFor(flags, sampler, network, guidance) };
}
