/** Part *Open*: what a file is, what is missing, and its networks for every other part. */
import type { Opened } from '../protocol.js';
import { Status } from './chosen.js';
import { h } from './dom.js';
import type { Part } from './main.js';

export const openPart: Part = {
  name: 'open',
  title: 'Open',
  lead: 'Drop a file of weights, .safetensors or .pt, alone or with a YAML that describes it. It is read in ranges, stays on this machine, and what it holds can be chosen in the other parts.',
  open(engine, section, { families }) {
    const status = new Status();
    const result = h('div', { class: 'opened', 'aria-live': 'polite' });

    const take = async (files: readonly File[]) => {
      const isText = ({ name }: File) => /\.(ya?ml|json)$/i.test(name);
      const weights = files.find((file) => !isText(file));
      const description = files.find(isText) ?? null;
      result.replaceChildren();
      if (!weights) return status.fail(new Error('A description alone says nothing: drop the weights with it.'));
      status.say(`Reading ${weights.name}…`);
      try {
        const opened = await engine.call('open', { file: weights, description });
        status.say('');
        result.replaceChildren(...shown(weights.name, opened));
        families.set(opened.families);
      } catch (error) {
        status.fail(error);
      }
    };

    const input = h('input', {
      type: 'file',
      multiple: true,
      accept: '.safetensors,.pt,.pth,.ckpt,.bin,.yaml,.yml,.json',
    });
    input.addEventListener('change', () => void take([...(input.files ?? [])]));
    const area = h('label', { class: 'drop' }, h('span', {}, 'Drop a file here, or choose one'), input);
    for (const name of ['dragover', 'dragleave', 'drop'])
      area.addEventListener(name, (event) => {
        event.preventDefault();
        area.classList.toggle('over', name === 'dragover');
        if (name === 'drop') void take([...((event as DragEvent).dataTransfer?.files ?? [])]);
      });
    section.append(area, status.element, result);
    return () => {};
  },
};

/** What was opened, as elements. */
function shown(name: string, { title, lines, tensors, missing }: Opened): HTMLElement[] {
  const list = (entries: Opened['lines']) =>
    h('dl', {}, ...entries.flatMap(([term, text]) => [h('dt', {}, term), h('dd', {}, text)]));
  return [
    h('h3', {}, `${name}: ${title}`),
    list(lines),
    ...(missing.length ? [h('h3', {}, 'What is missing'), list(missing)] : []),
    ...(missing.length || tensors.length
      ? []
      : [h('p', {}, 'It can be chosen in the other parts: ', h('a', { href: '#sample/opened' }, 'sample it'), '.')]),
    ...(tensors.length
      ? [
          h(
            'div',
            { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'tensors of the file' },
            h(
              'table',
              {},
              h(
                'thead',
                {},
                h('tr', {}, ...['tensor', 'dtype', 'shape'].map((head) => h('th', { scope: 'col' }, head))),
              ),
              h('tbody', {}, ...tensors.map((row) => h('tr', {}, ...row.map((cell) => h('td', {}, cell))))),
            ),
          ),
        ]
      : []),
  ];
}
