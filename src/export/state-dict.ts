import { weakPrefix } from '../models/autoguided.js';
import { exportNetwork, type Network, type WeightsFile } from '../flow/network.js';

/** A network's weights as PyTorch takes them: names, shapes and axes of the public model, which is what files always have. */
export function exportStateDict(network: Network): WeightsFile {
  const { tensors, metadata } = exportNetwork(network);
  // Loaders of others ask for this key.
  return { tensors, metadata: { ...metadata, format: 'pt' } };
}

/** The lines of Python that load it, and say what is in it beyond the public model and how the output is meant. */
export function loadingLines({ model, description }: Network, file: string): string {
  const { architecture, role, prediction, path, time, timeScale, autoguidance } = description;
  const student = [...model.studentParameters];
  const own = time === 'data-at-1' ? '1 - t' : 't';
  const scaled = timeScale === 1 ? own : `${timeScale} * (${own})`;
  return [
    'from safetensors.torch import load_file',
    `state = load_file(${JSON.stringify(file)})  # ${Object.keys(architecture).includes('kind') ? architecture.kind : 'a'} state dict, ${model.parameters.length} tensors`,
    ...(student.length
      ? [
          `beside = {name: state.pop(name) for name in list(state) if name.split('.')[0] in ${JSON.stringify([...new Set(student.map((name) => name.split('.')[0]))])}}`,
          '# the second time input: docs/export.md has its six lines',
        ]
      : []),
    ...(autoguidance === undefined
      ? []
      : [
          `weak = {name[${weakPrefix.length}:]: state.pop(name) for name in list(state) if name.startswith('${weakPrefix}')}`,
          `# for a weaker model of the same class; together they are weak + ${autoguidance} * (model - weak)`,
        ]),
    'model.load_state_dict(state)',
    path.kind === 'straight' && prediction === 'velocity'
      ? `# u = model(x, ${scaled}${role === 'flow-map' ? ', …' : ''}); ${role === 'flow-map' ? 'f(x, t, s) = x + (s - t) * u' : 'dx/dt = u'}${time === 'data-at-1' ? ', of the other sign' : ''}, t = 1 noise, 0 data`
      : `# it predicts ${prediction} on a ${path.kind} path: docs/export.md says how that becomes a velocity`,
  ].join('\n');
}
