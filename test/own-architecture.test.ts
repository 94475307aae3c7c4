import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readSafetensors } from '../node/files.js';
import { full } from './support/full.js';

// Outside of the repository, as those who write one have it.
const folder = mkdtempSync(join(tmpdir(), 'semiflow-own-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);
const [source] = /(?<=```ts\n).*?(?=```)/s.exec(readFileSync('docs/architectures.md', 'utf8'))!;
writeFileSync(at('conv-bn.ts'), source);

function semiflow(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['bin/semiflow.js', ...args], { encoding: 'utf8' });
  const complaints = stderr.split('\n').filter((line) => line && !line.startsWith('warning: '));
  return { status, stdout, complaints };
}

/** What a command prints, which must not fail. */
function done(...args: string[]): string {
  const { status, stdout, complaints } = semiflow(...args);
  expect(complaints).toEqual([]);
  expect(status).toBe(0);
  return stdout;
}

/** The one line that a command refuses with. */
function refused(...args: string[]): string {
  const { status, complaints } = semiflow(...args);
  expect(complaints).toHaveLength(1);
  expect(status).toBe(2);
  return complaints[0];
}

describe("an architecture of one's own, as docs/architectures.md shows it", () => {
  const [teacher, run, student] = [at('teacher.safetensors'), at('run'), at('student')];
  const module = at('conv-bn.ts');

  it('is trained as a teacher, distilled and sampled', async () => {
    const training = ['--batch', '4', '--log-every', '1'];
    const made = ['--arch', module, '--out', teacher, '--run', run, '--steps', '2', ...training];
    done('teacher', '--data', 'shapes28', ...made);
    const { metadata, tensors } = await readSafetensors(teacher);
    const { architecture } = JSON.parse(metadata.semiflow);
    expect(architecture).toMatchObject({ kind: 'conv-bn', module: { name: 'conv-bn.ts' } });
    expect(metadata.semiflow).not.toContain(folder);
    expect(tensors.has('middle.norm2.running_var')).toBe(true);
    // The run knows where its module lies.
    expect(readFileSync(join(run, 'config.yaml'), 'utf8')).toContain('path: ../conv-bn.ts');
    expect(done('teacher', '--resume', run, '--print-config')).toContain('conv-bn');

    const from = ['--teacher', teacher, '--arch', module, '--data', 'shapes28', '--out', student, '--steps', '2'];
    // One objective and all weights: each kernel more is compiled, and this chain is compiled twice already.
    done('train', ...from, '--method', 'lmd', '--no-evaluate', ...training);
    const samples = at('samples.safetensors');
    done(
      'sample',
      '--model',
      join(student, 'student.safetensors'),
      '--arch',
      module,
      '--nfe',
      '1',
      '--n',
      '3',
      '--out',
      samples,
    );
    const x = await (await readSafetensors(samples)).readF32('x');
    expect(x).toHaveLength(3 * 784);
    expect(x.every(Number.isFinite)).toBe(true);
  }, 900_000);

  it('is named by its files, which are refused in a line without it', () => {
    const sample = ['sample', '--model', teacher, '--out', at('none.npy')];
    expect(refused(...sample)).toMatch(/"conv-bn" is defined by the module conv-bn\.ts \(sha256 [0-9a-f]{12}/);
    expect(existsSync(at('none.npy'))).toBe(false);
    expect(done('info', teacher, '--arch', module)).toMatch(/module +conv-bn\.ts, sha256 [0-9a-f]{64}/);
    appendFileSync(module, '// changed\n');
    expect(done('info', teacher, '--arch', module)).toMatch(/written with another version of conv-bn\.ts/);
  });

  it.skipIf(!full)('takes its sizes from YAML beside it, in JavaScript too, and says what is wrong', () => {
    const yaml = (name: string, text: string) => {
      writeFileSync(at(name), text);
      return at(name);
    };
    const printed = (arch: string) => ['teacher', '--data', 'shapes28', '--arch', arch, '--print-config'];
    const sizes = 'kind: conv-bn\nmodule: ./conv-bn.ts\nshape: [1, 28, 28]\n';
    expect(done(...printed(yaml('wide.yaml', `${sizes}width: 48\n`)))).toMatch(/width: 48/);
    expect(refused(...printed(yaml('typo.yaml', `${sizes}widht: 48\n`)))).toMatch(/widht/);
    expect(refused(...printed(yaml('lost.yaml', 'kind: conv-bn\nmodule: ./nowhere.ts\n')))).toMatch(/nowhere\.ts/);
    const script = yaml(
      'plain.js',
      "import { defineBackbone, z } from 'semiflow';\nexport default defineBackbone({ name: 'plain', schema: z.object({ n: z.number().default(784) }), build: ({ n }) => ({ sampleShape: [n], parameters: [], apply: (_, { x }) => x }) });\n",
    );
    expect(done(...printed(script))).toMatch(/kind: plain/);
    expect(refused(...printed(yaml('empty.ts', 'export const nothing = 1;\n')))).toMatch(/made by defineBackbone/);
    expect(refused(...printed(yaml('broken.js', 'export default (;\n')))).toMatch(/broken\.js.*does not run/);
    expect(refused(...printed(yaml('throws.mjs', "throw new Error('at once');\n")))).toMatch(/at once/);
  });
});
