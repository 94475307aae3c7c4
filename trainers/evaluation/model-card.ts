import type { Origin } from '../../src/flow/origin.js';
import { markdownTable } from '../../src/report/table.js';
import type { Evaluation } from './evaluation.js';

/** What a card says. */
export interface CardContent {
  title: string;
  /** What came of it, in sentences. */
  verdict: string;
  facts: readonly (readonly [string, string])[];
  evaluation: Evaluation | null;
  /** How the weights came to be, where that is known. */
  origin?: Origin;
}

/** The card that lies beside a student's weights, as model hubs show it: what it is, how it was made, how it is used. */
export function modelCard({ title, verdict, facts, evaluation, origin }: CardContent): string {
  const tables = (evaluation?.tables ?? []).map(({ heading, table, notes = [], about = [] }) =>
    [`### ${heading}`, markdownTable(table), [...notes, ...about].map((line) => `- ${line}`).join('\n')]
      .filter(Boolean)
      .join('\n\n'),
  );
  const hashes = Object.entries(origin?.inputs ?? {}).map(([name, hash]) => [`fingerprint of the ${name}`, hash]);
  return `${[
    '---\nlibrary_name: semiflow\ntags:\n  - flow-map\n  - generative\n---',
    `# ${title}`,
    verdict,
    '## Use',
    '```\nnpx semiflow sample --model student.safetensors --n 64 --out samples.png\nnpx semiflow check --model student.safetensors\nnpx semiflow info student.safetensors\n```',
    'In one step by default; `--nfe` takes more of them.',
    '## Making',
    markdownTable({ columns: ['what', 'value'], rows: [...facts, ...hashes].map((row) => [...row]) }),
    'The recipe in full is in `config.yaml`, and in the metadata of the weights.',
    ...(tables.length ? ['## Figures', ...tables] : []),
    '## Limits',
    'It makes what its teacher, or its data, makes, with the faults of either. Nothing filters what it makes.',
  ].join('\n\n')}\n`;
}
