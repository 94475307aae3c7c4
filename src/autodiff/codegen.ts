import { sources } from '../../kernels/sources.js';
import type { Profile } from '../gpu/profile.js';
import { bytesPerElement } from '../gpu/storage.js';
import type { Tensor } from '../tensor/tensor.js';
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
 * The WGSL of a task: the file's directives, a prelude with what the file's contract asks for (constants, accessors of
 * operands and outputs, fused expressions included), the libraries that it names under `Includes:`, then the file as it
 * is. Extents, strides and offsets are numbers beside the text, so that tasks which differ in nothing else share a pipeline.
 */
export function link(
  task: Task,
  isHalf: (node: Tensor) => boolean,
  gridX: number,
  profile: Pick<Profile, 'maxBindingBytes'>,
): LinkedKernel {
  const { directives, body } = assembled(task.kernel);
  const prelude = new Prelude(task, isHalf, body, profile);
  const { constants = {} } = task.kernel;
  const numbers = { GRID_X: gridX, ...task.kernel.numbers, ...prelude.numbers };
  const text = [
    ...(prelude.half ? ['enable f16;'] : []),
    ...directives,
    ...Object.entries(constants).map(([name, value]) => `const ${name} = ${value};`),
    `struct Numbers { ${Object.keys(numbers)
      .map((name) => `${name}: u32`)
      .join(', ')} }`,
    `@group(0) @binding(${prelude.bindings.list.length}) var<uniform> numbers: Numbers;`,
    'fn workgroup_index(w: vec3u) -> u32 { return w.x + w.y * numbers.GRID_X; }',
    prelude.text(),
    body,
  ];
  return {
    source: text.join('\n'),
    bindings: prelude.bindings.list,
    numbers: Uint32Array.from(Object.values(numbers)),
  };
}

/** A kernel's file behind the libraries that it names; directives go to the front of a text. */
function assembled({ source, library }: Kernel): { directives: string[]; body: string } {
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
    };
    files.set(key, made);
  }
  return made;
}
const files = new Map<string, { directives: string[]; body: string }>();

function sourceOf(name: string): string {
  const source = sources[name];
  if (!source) throw new Error(`there is no kernel kernels/${name}.wgsl`);
  return source;
}

const aligned = (run: number) => run % 4 === 0;

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
  readonly bindings: Bindings;
  /** Those that expressions read. */
  readonly numbers: Record<string, number> = {};
  private readonly slots = new Map<number, Slot>();
  private readonly functions: string[] = [];
  private readonly libraries = new Set<string>();
  private readonly leaves = new Map<Tensor, number>();
  private readonly late: (() => void)[] = [];

  constructor(
    private readonly task: Task,
    private readonly isHalf: (node: Tensor) => boolean,
    body: string,
    private readonly profile: Pick<Profile, 'maxBindingBytes'>,
  ) {
    this.bindings = bindingsOf(task, profile, isHalf);
    for (const operand of task.kernel.operands) this.operand(operand, body);
    this.output(body);
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

  private operand({ name, tensor, run }: Operand, body: string): void {
    const scalar = scalarType(tensor);
    const vector = vectorType(tensor);
    const wantsVector = new RegExp(`\\bload_${name}4\\(`).test(body);
    const wide = aligned(run);
    this.functions.push(`const ${name.toUpperCase()}_ALIGNED = ${wide};`);
    if (new RegExp(`\\bload_${name}1\\(`).test(body) || (wantsVector && !wide)) {
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

  /** The body of a function of `i` that returns elements of a tensor. */
  private expression(tensor: Tensor, width: Width, core?: Tensor): string {
    const body: string[] = [];
    const values = new Map<string, string>();
    const names = new Map<string, string>();
    const emitter: Emitter = {
      line: (expression) => {
        if (/^\w+$/.test(expression)) return expression;
        let name = names.get(expression);
        if (!name) {
          name = `v${names.size}`;
          names.set(expression, name);
          body.push(`  let ${name} = ${expression};`);
        }
        return name;
      },
      value: (node, index, w) => {
        const key = `${node.id}|${index}|${w}`;
        let value = values.get(key);
        if (value === undefined) {
          value = this.evaluate(node, emitter, index, w);
          values.set(key, value);
        }
        return value;
      },
      include: (library) => this.libraries.add(library),
    };
    if (core) values.set(`${core.id}|i|${width}`, 'value');
    const result = emitter.value(tensor, 'i', width);
    return [...body.map((line) => this.withNumbers(line)), `  return ${result};`].join('\n');
  }

  /**
   * A line with its whole numbers as data. Those that something is divided by stay, as drivers divide by what they know
   * without dividing; so do those that count lanes, and an index in place of one that does not count.
   */
  private withNumbers(line: string): string {
    if (/^ {2}let v\d+ = \w+ \+ [123]u;$|vec4u\(0u, 1u/.test(line)) return line;
    return line
      .replace(/(?<![\w.]|[/%&] |<< |>> |select\()(\d+)u\b/g, (_, digits: string) => this.number(Number(digits)))
      .replace(/\((-?[\d.]+(?:e[+-]?\d+)?)f\)/g, (literal, digits: string) => {
        const value = Number(digits);
        return plain.has(value) ? literal : `(bitcast<f32>(${this.number(bitsOf(value))}))`;
      });
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

  /** How a node's elements lie in memory. */
  private typeOf(node: Tensor): Slot['type'] {
    const storage = node.op === 'storage' ? (node as Tensor<'storage'>).attributes.storage : writesOf(node)?.[0];
    return storage?.dtype ?? (this.isHalf(node) ? 'f16' : scalarType(node));
  }

  private output(body: string): void {
    const { core, output, kernel } = this.task;
    const slot = this.bindings.output;
    if (slot === undefined) return;
    const stores = { 1: /\bstore1\(/.test(body), 4: /\bstore4\(/.test(body) };
    const type = this.typeOf(output);
    const wide = aligned(kernel.run) && !stores[1];
    this.slot(slot, type, !wide);
    this.functions.push(`const OUTPUT_ALIGNED = ${wide};`);
    const width = wide ? 4 : 1;
    const [coreType, resultType] = [core, output].map(wide ? vectorType : scalarType);
    const result = core === output ? '  return value;' : this.expression(output, width, core);
    this.functions.push(`fn epilogue${width}(i: u32, value: ${coreType}) -> ${resultType} {\n${result}\n}`);
    const store4 = (lines: string[]) =>
      this.functions.push(
        `fn store4(i: u32, value: ${vectorType(core)}, n: u32) {\n${lines.map((line) => `  ${line}\n`).join('')}}`,
      );
    const later = [1, 2, 3].map((lane) => ({ lane, within: `if (n > ${lane}u)` }));
    if (type === 'u8') {
      // Four to a word, which one invocation writes: `i` is a multiple of 4.
      const lanes = later.map(
        ({ lane, within }) => `${within} { v[${lane}] = epilogue1(i + ${lane}u, value[${lane}]); }`,
      );
      const first = wide
        ? ['let v = epilogue4(i, value);']
        : ['var v = vec4u(epilogue1(i, value[0]), 0u, 0u, 0u);', ...lanes];
      store4([...first, this.write(slot, 'i >> 2u', 'pack4xU8(v)')]);
      return;
    }
    if (!wide) {
      const kept = type === 'f16' ? 'f16(epilogue1(i, value))' : 'epilogue1(i, value)';
      this.functions.push(`fn store1(i: u32, value: ${scalarType(core)}) { ${this.write(slot, 'i', kept)} }`);
      if (stores[4])
        store4([
          'store1(i, value[0]);',
          ...later.map(({ lane, within }) => `${within} { store1(i + ${lane}u, value[${lane}]); }`),
        ]);
      return;
    }
    // Something that the kernel reads through the same binding may need single elements.
    this.late.push(() => {
      const kept = `vec4<${type}>(epilogue4(i, value))`;
      if (!this.slots.get(slot)!.scalar) store4([this.write(slot, 'i >> 2u', kept)]);
      else store4([`let v = ${kept};`, ...[0, 1, 2, 3].map((lane) => this.write(slot, `i + ${lane}u`, `v[${lane}]`))]);
    });
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

/** Constants with which a compiler may have less to do. */
const plain = new Set([0, 1, -1, 2, 0.5]);
const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

const scalarType = (node: Tensor) => (node.dtype === 'f32' ? 'f32' : 'u32');
const vectorType = (node: Tensor) => (node.dtype === 'f32' ? 'vec4f' : 'vec4u');
