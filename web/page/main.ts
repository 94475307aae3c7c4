/** The page: its parts, of which one is shown at a time, and what is said where nothing can be computed. */
import { distilPart } from './distil.js';
import { h } from './dom.js';
import { editPart } from './edit.js';
import { Engine } from './engine.js';
import { FamilyList, named } from './families.js';
import { openPart } from './open.js';
import { operatorPart } from './operator.js';
import { samplePart } from './sample.js';
import { themeButton } from './theme.js';

/** What all parts have in common. */
export interface Shared {
  families: FamilyList;
}

/** A part of the page: made when it is first shown. */
export interface Part {
  /** In the address and the navigation. */
  readonly name: string;
  readonly title: string;
  /** What it is for, in a sentence. */
  readonly lead: string;
  /** Fills its section. @returns what draws it anew, in other colours or another size */
  open(engine: Engine, section: HTMLElement, shared: Shared): () => void;
}

const parts: readonly Part[] = [samplePart, operatorPart, editPart, distilPart, openPart];

const failure = document.getElementById('failure')!;
const device = document.getElementById('device')!;
const main = document.getElementById('main')!;
const nav = document.querySelector('nav')!;

/** Says what to do, and offers to begin anew. */
function fail(message: string): void {
  device.textContent = 'No GPU';
  failure.hidden = false;
  failure.replaceChildren(
    h('p', {}, sentence(message)),
    h('button', { type: 'button', onclick: () => location.reload() }, 'Begin anew'),
  );
}

const sentence = (text: string): string => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

const redraws = new Map<string, () => void>();
let shown = '';
const engine = new Engine(fail);

/** Shows the part that the address names. */
function show(shared: Shared): void {
  const { part: name } = named();
  const wanted = parts.find((part) => part.name === name) ?? parts[0];
  for (const part of parts) {
    const section = document.getElementById(part.name)!;
    section.hidden = part !== wanted;
    const link = nav.querySelector(`a[href="#${part.name}"]`)!;
    if (part === wanted) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  shown = wanted.name;
  document.title = `${wanted.title} · semiflow`;
  const redrawn = redraws.get(wanted.name);
  if (redrawn) redrawn();
  else redraws.set(wanted.name, wanted.open(engine, document.getElementById(wanted.name)!, shared));
}

/** Draws the part that is shown anew; the others are when they are shown. */
const redraw = () => redraws.get(shown)?.();

for (const { name, title, lead } of parts) {
  nav.append(h('a', { href: `#${name}` }, title));
  main.append(
    h(
      'section',
      { id: name, 'aria-labelledby': `${name}-title`, hidden: true },
      h('h2', { id: `${name}-title` }, title),
      h('p', { class: 'lead' }, lead),
    ),
  );
}
themeButton(document.getElementById('theme')!, redraw);

engine
  .call('start', null)
  .then(({ adapter, software, families }) => {
    const shared = { families: new FamilyList(families) };
    device.textContent = software ? `${adapter}: a software GPU, so it takes its time` : adapter;
    addEventListener('hashchange', () => show(shared));
    addEventListener('resize', redraw);
    show(shared);
  })
  .catch((error: Error) => fail(error.message));
