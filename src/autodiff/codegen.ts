import { sources } from '../../kernels/sources.js';
import type { Profile } from '../gpu/profile.js';
import { bytesPerElement } from '../gpu/storage.js';
import { Tensor } from '../tensor/tensor.js';
import type { Emitter, Kernel, Operand, Width } from '../ops/rule.js';
import { ruleOf } from '../ops/table.js';
import { writesOf } from './separate.js';
import { bindingsOf, windowBytes, type Binding, type Bindings } from './bindings.js';
import type { Task } from './schedule.js';

export interface LinkedKernel {
  source: string;
  /** The numbers that it reads, u32 one after another: a uniform buffer behind all other bindings. */
  numbers: Uint32Array;
  /** In order of `@binding`. */
  bindings: readonly Binding[];
}

/**
 * The WGSL of tasks: the file's directives, a prelude with what the file's contract asks for (constants, accessors of
 * operands and outputs, fused expressions included), the libraries that it names under `Includes:`, then the file as it
 * is. Extents, strides and offsets are numbers beside the text, so that tasks which differ in nothing else share a pipeline.
 * Networks repeat their blocks: what was written once is not written again.
 */
export class Linker {
  private readonly written = new Map<string, { source: string; numbers: readonly number[] }>();

  /** @param isHalf whether a node's values lie in memory as f16 */
  constructor(
    private readonly isHalf: (node: Tensor) => boolean,
    private readonly profile: Pick<Profile, 'maxBindingBytes' | 'family'>,
  ) {}

  /** @param gridX workgroups in the first direction */
  link(task: Task, gridX: number): LinkedKernel {
    const bindings = bindingsOf(task, this.profile, this.isHalf);
    const key = signatureOf(task, bindings, this.isHalf);
    let text = this.written.get(key);
    if (!text) this.written.set(key, (text = written(task, bindings, this.isHalf, this.profile)));
    return { source: text.source, bindings: bindings.list, numbers: Uint32Array.of(gridX, ...text.numbers) };
  }
}

/** The text of a task, and the numbers that it reads behind that of `GRID_X`. */
function written(
  task: Task,
  bindings: Bindings,
  isHalf: (node: Tensor) => boolean,
  profile: Pick<Profile, 'maxBindingBytes' | 'family'>,
): { source: string; numbers: readonly number[] } {
  const { directives, body, calls } = assembled(task.kernel);
  const prelude = new Prelude(task, bindings, isHalf, calls, profile);
  const { constants = {} } = task.kernel;
  const once = profile.family === 'plain';
  const numbers = { ...task.kernel.numbers, ...prelude.numbers };
  const text = [
    ...(prelude.half ? ['enable f16;'] : []),
    ...directives,
    ...(once ? ['diagnostic(off, subgroup_uniformity);'] : []),
    ...Object.entries(constants).map(([name, value]) => `const ${name} = ${value};`),
    `struct Numbers { ${['GRID_X', ...Object.keys(numbers)].map((name) => `${name}: u32`).join(', ')} }`,
    ...numbersAt(prelude.bindings.list.length, once),
    prelude.text(),
    body,
  ];
  return { source: text.join('\n'), numbers: Object.values(numbers) };
}

/** All that a task's text and numbers depend on. */
function signatureOf(task: Task, bindings: Bindings, isHalf: (node: Tensor) => boolean): string {
  const { kernel, core, kept, output } = task;
  const { source, library, constants, numbers, operands, run } = kernel;
  const { windows, output: own, second, kept: beside, state, rounded, list } = bindings;
  const places = new Map<Tensor, number>();
  const slots = [list.length, own, second, beside, rounded, ...windows, ...state];
  let text = `${source} ${library} ${run} ${slots} ${JSON.stringify([constants, numbers])}`;
  const attributesOf = (node: Tensor) => (Object.keys(node.attributes).length ? JSON.stringify(node.attributes) : '');
  const visit = (node: Tensor): number => {
    let place = places.get(node);
    if (place !== undefined) return place;
    const leaf = bindings.leaves.get(node);
    const inputs = leaf || node === core ? [] : node.inputs.map(visit);
    text += leaf
      ? `\n${leaf.slot}+${leaf.first}${storedAs(node, isHalf)}`
      : `\n${node.op}(${inputs})${node === core ? '' : attributesOf(node)}`;
    text += `${node.dtype}${node.shape}`;
    places.set(node, (place = places.size));
    return place;
  };
  for (const { name, tensor, run: along } of operands) {
    // A pointwise kernel computes the node that it is asked for.
    const root = tensor === core ? `${tensor.inputs.map(visit)}${attributesOf(tensor)}` : visit(tensor);
    text += `\n${name} ${along}=${root}`;
  }
  for (const node of [core, kept ?? core, output]) {
    const place = visit(node);
    text += `\n${place}${storedAs(node, isHalf)}`;
  }
  return text;
}

/** How a node's elements lie in memory. */
function storedAs(node: Tensor, isHalf: (node: Tensor) => boolean): Slot['type'] {
  const storage = node.op === 'storage' ? (node as Tensor<'storage'>).attributes.storage : writesOf(node)?.[0];
  return storage?.dtype ?? (isHalf(node) ? 'f16' : scalarType(node));
}

/**
 * How a kernel gets its numbers, and `workgroup_index`, which it calls before it reads any. Software adapters load a
 * uniform anew wherever it is read, in every turn of a loop: they read each once. (That copies of uniforms are uniform, and
 * that a subgroup has one row, the analysis of uniformity cannot know.)
 */
const numbersAt = (binding: number, once: boolean): string[] => [
  `@group(0) @binding(${binding}) var<uniform> ${once ? 'given' : 'numbers'}: Numbers;`,
  ...(once ? ['var<private> numbers: Numbers;'] : []),
  `fn workgroup_index(w: vec3u) -> u32 { ${once ? 'numbers = given; ' : ''}return w.x + w.y * numbers.GRID_X; }`,
];

/** A kernel's file behind the libraries that it names; directives go to the front of a text. */
function assembled({ source, library }: Kernel): Assembled {
  const key = `${source} ${library}`;
  let made = files.get(key);
  if (!made) {
    const file = sourceOf(source);
    const named = [...(/^\/\/ Includes: (.*)$/m.exec(file)?.[1] ?? '').matchAll(/lib\/[\w-]+/g)].map(([name]) => name);
    const parts = [...named, ...(library ? [`lib/${library}`] : [])].map(sourceOf);
    const lines = [...parts, file].join('\n').split('\n');
    const isDirective = (line: string) => /^(enable|requires|diagnostic)\b/.test(line);
    made = {
      directives: [...new Set(lines.filter(isDirective))],
      body: lines.filter((line) => !isDirective(line)).join('\n'),
      calls: new Set(),
    };
    for (const [, name] of made.body.matchAll(/\b((?:load|store)_?\w*)\(/g)) made.calls.add(name);
    files.set(key, made);
  }
  return made;
}
interface Assembled {
  directives: string[];
  body: string;
  /** The accessors that it uses. */
  calls: Set<string>;
}
const files = new Map<string, Assembled>();

function sourceOf(name: string): string {
  const source = sources[name];
  if (!source) throw new Error(`there is no kernel kernels/${name}.wgsl`);
  return source;
}

const aligned = (run: number) => run % 4 === 0;

/** Two operands that a kernel reads at once. */
type Pair = readonly [Operand, Operand];

/** Those that a kernel asks for by `load_<name>_<name>4`. */
function pairsIn(calls: ReadonlySet<string>, operands: readonly Operand[]): Pair[] {
  const all = operands.flatMap((a) => operands.map((b): Pair => [a, b]));
  return all.filter(([a, b]) => calls.has(`load_${a.name}_${b.name}4`));
}

/** A buffer as WGSL declares it: elements one by one, if some access needs that, or vec4s. */
interface Slot {
  type: 'f32' | 'u32' | 'f16' | 'u8';
  scalar: boolean;
}

/** What an array's element is in WGSL, and its bytes. */
const elementOf = ({ type, scalar }: Slot): { name: string; bytes: number } =>
  type === 'u8'
    ? { name: 'u32', bytes: 4 }
    : scalar
      ? { name: type, bytes: bytesPerElement[type] }
      : { name: `vec4<${type}>`, bytes: 4 * bytesPerElement[type] };

class Prelude {
  /** Those that expressions read. */
  readonly numbers: Record<string, number> = {};
  private readonly slots = new Map<number, Slot>();
  private readonly functions: string[] = [];
  private readonly libraries = new Set<string>();
  private readonly leaves = new Map<Tensor, number>();
  private readonly late: (() => void)[] = [];

  constructor(
    private readonly task: Task,
    readonly bindings: Bindings,
    private readonly isHalf: (node: Tensor) => boolean,
    calls: ReadonlySet<string>,
    private readonly profile: Pick<Profile, 'maxBindingBytes' | 'family'>,
  ) {
    const pairs = pairsIn(calls, task.kernel.operands);
    for (const operand of task.kernel.operands) this.operand(operand, calls, pairs.flat().includes(operand));
    for (const pair of pairs) this.pair(pair);
    this.output(calls);
    this.second();
    this.rounded();
    // Now that every access is known, so is whether a buffer is one of vec4s.
    for (const write of this.late) write();
  }

  /** Whether some binding holds f16. */
  get half(): boolean {
    return [...this.slots.values()].some(({ type }) => type === 'f16');
  }

  text(): string {
    // Always read_write: the arena may be bound for reading and writing at once only under one usage.
    const declare = (slot: number, name: string, type: string) =>
      `@group(0) @binding(${slot}) var<storage, read_write> ${name}: array<${type}>;`;
    const states = [...this.bindings.state].map(([name, slot]) => declare(slot, name, 'vec4f'));
    const buffers = [...this.slots].flatMap(([slot, kind]) =>
      Array.from({ length: this.windowsAt(slot) }, (_, k) =>
        declare(slot + k, `buffer${slot + k}`, elementOf(kind).name),
      ),
    );
    if (buffers.length + states.length < this.bindings.list.length)
      throw new Error(`kernel ${this.task.kernel.source} does not use all that it binds`);
    return [
      ...buffers,
      ...states,
      ...[...this.slots].flatMap(([slot, kind]) => this.windowAccess(slot, kind)),
      ...[...this.libraries].map((name) => sourceOf(`lib/${name}`)),
      ...this.functions,
    ].join('\n');
  }

  private slot(slot: number, type: Slot['type'], scalar: boolean): void {
    const same = this.slots.get(slot);
    if (same && same.type !== type) throw new Error(`a binding holds both ${type} and ${same.type}`);
    this.slots.set(slot, { type, scalar: scalar || Boolean(same?.scalar) });
  }

  /** How many windows begin at a slot: 1 where a binding holds all. */
  private windowsAt(slot: number): number {
    return this.bindings.windows.get(slot) ?? 1;
  }

  /** Functions that read and write an element of the windows from a slot on, where there are several. */
  private windowAccess(slot: number, kind: Slot): string[] {
    const count = this.windowsAt(slot);
    if (count === 1) return [];
    const { name, bytes } = elementOf(kind);
    const each = windowBytes(this.profile) / bytes;
    const cases = (write: (buffer: string) => string) =>
      Array.from(
        { length: count },
        (_, k) => `    ${k + 1 < count ? `case ${k}u` : 'default'}: { ${write(`buffer${slot + k}`)} }\n`,
      ).join('');
    const choose = `switch (i >> ${Math.log2(each)}u) {\n`;
    const at = `i & ${each - 1}u`;
    return [
      `fn get${slot}(i: u32) -> ${name} {\n  ${choose}${cases((buffer) => `return ${buffer}[${at}];`)}  }\n}`,
      `fn put${slot}(i: u32, value: ${name}) {\n  ${choose}${cases((buffer) => `${buffer}[${at}] = value;`)}  }\n}`,
    ];
  }

  /** An element of the array at a slot. */
  private element(slot: number, index: string): string {
    return this.windowsAt(slot) > 1 ? `get${slot}(${index})` : `buffer${slot}[${index}]`;
  }

  /** A statement that writes it. */
  private write(slot: number, index: string, value: string): string {
    return this.windowsAt(slot) > 1 ? `put${slot}(${index}, ${value});` : `buffer${slot}[${index}] = ${value};`;
  }

  private operand({ name, tensor, run }: Operand, calls: ReadonlySet<string>, paired: boolean): void {
    const scalar = scalarType(tensor);
    const vector = vectorType(tensor);
    const wide = aligned(run);
    const wantsVector = calls.has(`load_${name}4`) || (paired && !wide);
    this.functions.push(`const ${name.toUpperCase()}_ALIGNED = ${wide};`);
    if (calls.has(`load_${name}1`) || (wantsVector && !wide)) {
      this.functions.push(`fn load_${name}1(i: u32) -> ${scalar} {\n${this.expression(tensor, 1)}\n}`);
    }
    if (!wantsVector) return;
    if (wide) this.functions.push(`fn load_${name}4(i: u32, n: u32) -> ${vector} {\n${this.expression(tensor, 4)}\n}`);
    else {
      const lanes = [1, 2, 3].map((lane) => `  if (n > ${lane}u) { v[${lane}] = load_${name}1(i + ${lane}u); }`);
      this.functions.push(
        `fn load_${name}4(i: u32, n: u32) -> ${vector} {\n  var v = ${vector}();\n  v[0] = load_${name}1(i);\n${lanes.join('\n')}\n  return v;\n}`,
      );
    }
  }

  /** Two operands as the columns of a matrix: what both are made of is read and computed once. */
  private pair([a, b]: Pair): void {
    const body =
      aligned(a.run) && aligned(b.run)
        ? this.expression([a.tensor, b.tensor], 4)
        : `  return mat2x4f(load_${a.name}4(i, n), load_${b.name}4(i, n));`;
    this.functions.push(`fn load_${a.name}_${b.name}4(i: u32, n: u32) -> mat2x4f {\n${body}\n}`);
  }

  /** The body of a function of `i` that returns elements of a tensor, or of two as the columns of a matrix. */
  private expression(wanted: Tensor | readonly [Tensor, Tensor], width: Width, core?: Tensor): string {
    const body: string[] = [];
    const values = new Map<string, string>();
    const names = new Map<string, string>();
    /** Whether indices of what is evaluated now are small enough to be divided by numbers that are data. */
    let small = false;
    /** Whether its numbers stay text. */
    let textual = false;
    const emitter: Emitter = {
      line: (expression) => {
        if (/^\w+$/.test(expression)) return expression;
        let name = names.get(expression);
        if (!name) {
          name = `v${names.size}`;
          names.set(expression, name);
          const line = `  let ${name} = ${expression};`;
          body.push(textual ? line : this.withNumbers(line, small));
        }
        return name;
      },
      value: (node, index, w) => {
        const key = `${node.id}|${index}|${w}`;
        let value = values.get(key);
        if (value === undefined) {
          const outer = [small, textual] as const;
          textual = Boolean((ruleOf(node) as { textual?: true }).textual);
          small = this.profile.family === 'plain' && node.size <= mostDivided;
          value = this.evaluate(node, emitter, index, w);
          [small, textual] = outer;
          values.set(key, value);
        }
        return value;
      },
      include: (library) => this.libraries.add(library),
    };
    if (core) values.set(`${core.id}|i|${width}`, 'value');
    const results = (wanted instanceof Tensor ? [wanted] : wanted).map((tensor) => emitter.value(tensor, 'i', width));
    const result = results.length === 1 ? results[0] : `mat2x4f(${results.join(', ')})`;
    return [...body, `  return ${result};`].join('\n');
  }

  /**
   * A line with its whole numbers as data. What counts lanes stays, and an index in place of one that does not count. So do
   * divisors, as drivers divide by what they know without dividing, but where indices are small and compiling is dear.
   */
  private withNumbers(line: string, small: boolean): string {
    // Most lines hold none.
    if (!/\du|\df\)/.test(line) || /^ {2}let v\d+ = \w+ \+ [123]u;$|vec4u\(0u, 1u/.test(line)) return line;
    return (small ? this.withDivisors(line) : line)
      .replace(/(?<![\w.]|[/%&] |<< |>> |select\()(\d+)u\b/g, (_, digits: string) => this.number(Number(digits)))
      .replace(/\((-?[\d.]+(?:e[+-]?\d+)?)f\)/g, (literal, digits: string) => {
        const value = Number(digits);
        return plain.has(value) ? literal : `(bitcast<f32>(${this.number(bitsOf(value))}))`;
      });
  }

  /** A line whose quotients and remainders are computed by lib/quotient.wgsl. */
  private withDivisors(line: string): string {
    let text = line;
    for (let found = divided.exec(text); found; found = divided.exec(text)) {
      const [operation, sign, digits] = found;
      const start = operandStart(text, found.index);
      const dividend = text.slice(start, found.index);
      const divisor = Number(digits);
      const inverse = this.number(bitsOf(1 / divisor));
      this.libraries.add('quotient');
      const value =
        sign === '/'
          ? `quotient(${dividend}, ${inverse})`
          : `remainder(${dividend}, ${this.number(divisor)}, ${inverse})`;
      text = text.slice(0, start) + value + text.slice(found.index + operation.length);
    }
    return text;
  }

  private number(value: number): string {
    const name = `n${Object.keys(this.numbers).length}`;
    this.numbers[name] = value;
    return `numbers.${name}`;
  }

  private evaluate(node: Tensor, emitter: Emitter, index: string, width: Width): string {
    const place = this.bindings.leaves.get(node);
    if (place) return emitter.line(`${this.read(node, width)}(${index})`);
    const rule = ruleOf(node);
    if (rule.kind !== 'index') throw new Error(`${node.op} is not among what kernel ${this.task.kernel.source} reads`);
    return rule.emit(node as never, emitter, index, width);
  }

  /** The name of a function that reads a leaf. */
  private read(leaf: Tensor, width: Width): string {
    const { slot, first } = this.bindings.leaves.get(leaf)!;
    const type = this.typeOf(leaf);
    this.slot(slot, type, width === 1 || first % 4 !== 0);
    let number = this.leaves.get(leaf);
    if (number === undefined) {
      number = this.leaves.size;
      this.leaves.set(leaf, number);
      this.late.push(() => this.reader(leaf));
    }
    return `read${number}_${width}`;
  }

  private reader(leaf: Tensor): void {
    const { slot, first } = this.bindings.leaves.get(leaf)!;
    const { type, scalar } = this.slots.get(slot)!;
    const name = `read${this.leaves.get(leaf)}`;
    const [one, four] = [scalarType(leaf), vectorType(leaf)];
    const start = first ? `i + ${this.number(first)}` : 'i';
    const at = (lane: number) => (lane ? `${start} + ${lane}u` : start);
    const element = (lane: number) =>
      type === 'u8'
        ? `((${this.element(slot, `(${at(lane)}) >> 2u`)} >> (((${at(lane)}) & 3u) * 8u)) & 0xffu)`
        : type === 'f16'
          ? `f32(${this.element(slot, at(lane))})`
          : this.element(slot, at(lane));
    const lanes = `${four}(${[0, 1, 2, 3].map(element).join(', ')})`;
    const whole = this.element(slot, `(${at(0)}) >> 2u`);
    const vector =
      type === 'u8'
        ? first % 4
          ? lanes
          : `unpack4xU8(${whole})`
        : scalar
          ? lanes
          : type === 'f16'
            ? `vec4f(${whole})`
            : whole;
    if (scalar) this.functions.push(`fn ${name}_1(i: u32) -> ${one} { return ${element(0)}; }`);
    this.functions.push(`fn ${name}_4(i: u32) -> ${four} { return ${vector}; }`);
  }

  private typeOf(node: Tensor): Slot['type'] {
    return storedAs(node, this.isHalf);
  }

  private output(calls: ReadonlySet<string>): void {
    const { core, output, kept = core, kernel } = this.task;
    const slot = this.bindings.output;
    if (slot === undefined) return;
    const stores = { 1: calls.has('store1'), 4: calls.has('store4') };
    const type = this.typeOf(output);
    const wide = aligned(kernel.run) && !stores[1];
    this.slot(slot, type, !wide);
    this.functions.push(`const OUTPUT_ALIGNED = ${wide};`);
    const width = wide ? 4 : 1;
    const [coreType, keptType, resultType] = [core, kept, output].map(wide ? vectorType : scalarType);
    if (this.task.kept) this.keep(kept, width);
    const result = kept === output ? '  return value;' : this.expression(output, width, kept);
    this.functions.push(`fn epilogue${width}(i: u32, value: ${keptType}) -> ${resultType} {\n${result}\n}`);
    // What becomes of the value that the kernel stores.
    const finished = (i: string, value: string) =>
      `epilogue${width}(${i}, ${this.task.kept ? `kept${width}(${i}, ${value})` : value})`;
    const store4 = (lines: string[]) =>
      this.functions.push(
        `fn store4(i: u32, value: ${vectorType(core)}, n: u32) {\n${lines.map((line) => `  ${line}\n`).join('')}}`,
      );
    const later = [1, 2, 3].map((lane) => ({ lane, within: `if (n > ${lane}u)` }));
    if (type === 'u8') {
      // Four to a word, which one invocation writes: `i` is a multiple of 4.
      const lanes = later.map(
        ({ lane, within }) => `${within} { v[${lane}] = ${finished(`i + ${lane}u`, `value[${lane}]`)}; }`,
      );
      const first = wide
        ? [`let v = ${finished('i', 'value')};`]
        : [`var v = vec4u(${finished('i', 'value[0]')}, 0u, 0u, 0u);`, ...lanes];
      store4([...first, this.write(slot, 'i >> 2u', 'pack4xU8(v)')]);
      return;
    }
    if (!wide) {
      const value = finished('i', 'value');
      this.functions.push(
        `fn store1(i: u32, value: ${coreType}) { ${this.write(slot, 'i', type === 'f16' ? `f16(${value})` : value)} }`,
      );
      if (stores[4])
        store4([
          'store1(i, value[0]);',
          ...later.map(({ lane, within }) => `${within} { store1(i + ${lane}u, value[${lane}]); }`),
        ]);
      return;
    }
    // Something that the kernel reads through the same binding may need single elements.
    this.late.push(() => {
      const value = `vec4<${type}>(${finished('i', 'value')})`;
      if (!this.slots.get(slot)!.scalar) store4([this.write(slot, 'i >> 2u', value)]);
      else store4([`let v = ${value};`, ...[0, 1, 2, 3].map((lane) => this.write(slot, `i + ${lane}u`, `v[${lane}]`))]);
    });
  }

  /** From the core's value to that which is kept on the way to the output: computed, and written. */
  private keep(kept: Tensor, width: Width): void {
    const { core } = this.task;
    const slot = this.bindings.kept!;
    const type = this.typeOf(kept);
    this.slot(slot, type, width === 1);
    const [coreType, keptType] = [core, kept].map(width === 4 ? vectorType : scalarType);
    const value = kept === core ? '  return value;' : this.expression(kept, width, core);
    const stored = width === 4 ? `vec4<${type}>(x)` : type === 'f16' ? 'f16(x)' : 'x';
    const written = this.write(slot, width === 4 ? 'i >> 2u' : 'i', stored);
    this.functions.push(
      `fn before${width}(i: u32, value: ${coreType}) -> ${keptType} {\n${value}\n}`,
      `fn kept${width}(i: u32, value: ${coreType}) -> ${keptType} { let x = before${width}(i, value); ${written} return x; }`,
    );
  }

  private second(): void {
    const slot = this.bindings.second;
    if (slot !== undefined) this.slot(slot, 'f32', true);
    const [one, four] =
      slot === undefined
        ? ['', '']
        : [
            this.write(slot, 'i', 'value'),
            `for (var lane = 0u; lane < n; lane++) { ${this.write(slot, 'i + lane', 'value[lane]')} }`,
          ];
    this.functions.push(`fn store_second1(i: u32, value: f32) { ${one} }`);
    this.functions.push(`fn store_second4(i: u32, value: vec4f, n: u32) { ${four} }`);
  }

  private rounded(): void {
    const slot = this.bindings.rounded;
    if (slot !== undefined) this.slot(slot, 'f16', false);
    const store = slot === undefined ? '' : this.write(slot, 'i >> 2u', 'vec4<f16>(value)');
    this.functions.push(`fn store_rounded4(i: u32, value: vec4f) { ${store} }`);
  }
}

/** Elements of the largest tensor whose indices lib/quotient.wgsl divides. */
const mostDivided = 2 ** 22 - 4;
const divided = / ([/%]) (\d+)u\b/;

/** Where the operand begins that ends before a place of a text: a name, something in parentheses or a call. */
function operandStart(text: string, end: number): number {
  let start = end;
  if (text[end - 1] === ')') {
    let depth = 0;
    do {
      start--;
      depth += text[start] === ')' ? 1 : text[start] === '(' ? -1 : 0;
    } while (depth);
  }
  while (/\w/.test(text[start - 1])) start--;
  return start;
}

/** Constants with which a compiler may have less to do. */
const plain = new Set([0, 1, -1, 2, 0.5]);
const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

const scalarType = (node: Tensor) => (node.dtype === 'f32' ? 'f32' : 'u32');
const vectorType = (node: Tensor) => (node.dtype === 'f32' ? 'vec4f' : 'vec4u');
