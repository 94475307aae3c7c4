import { sources } from '../../kernels/sources.js';
import type { TensorStorage } from '../gpu/storage.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Emitter, IndexRule, Operand, Width } from '../ops/rule.js';
import { ruleOf } from '../ops/table.js';
import type { Task } from './schedule.js';

/** What one binding of a kernel is: a node with memory, a task's outputs, or a storage used in place. */
export type Binding = { leaf: Tensor } | { output: Tensor } | { second: Tensor } | { storage: TensorStorage };

export interface LinkedKernel {
  source: string;
  /** In order of `@binding`. */
  bindings: Binding[];
}

/**
 * The WGSL of a task: the file's directives, a prelude with what the file's contract asks for (constants, accessors of
 * operands and outputs, fused expressions included), the libraries that it names under `Includes:`, then the file as it
 * is.
 */
export function link(
  task: Task,
  isLeaf: (node: Tensor) => boolean,
  isHalf: (node: Tensor) => boolean,
  gridX: number,
): LinkedKernel {
  const file = sourceOf(task.kernel.source);
  const named = [...(/^\/\/ Includes: (.*)$/m.exec(file)?.[1] ?? '').matchAll(/lib\/[\w-]+/g)].map(([name]) => name);
  const { library } = task.kernel;
  const parts = [...named, ...(library ? [`lib/${library}`] : [])].map(sourceOf);
  const lines = [...parts, file].join('\n').split('\n');
  const isDirective = (line: string) => /^(enable|requires|diagnostic)\b/.test(line);
  const directives = [...new Set(lines.filter(isDirective))];
  const body = lines.filter((line) => !isDirective(line)).join('\n');
  const prelude = new Prelude(task, isLeaf, isHalf, body);
  const constants = { ...task.kernel.constants, GRID_X: `${gridX}u` };
  const text = [
    ...(prelude.half ? ['enable f16;'] : []),
    ...directives,
    ...Object.entries(constants).map(([name, value]) => `const ${name} = ${value};`),
    'fn workgroup_index(w: vec3u) -> u32 { return w.x + w.y * GRID_X; }',
    prelude.text(),
    body,
  ];
  return { source: text.join('\n'), bindings: prelude.bindings };
}

function sourceOf(name: string): string {
  const source = sources[name];
  if (!source) throw new Error(`there is no kernel kernels/${name}.wgsl`);
  return source;
}

const aligned = (run: number) => run % 4 === 0;

/** How a leaf is read: as vec4 throughout, or with some scalar access. */
interface LeafUse {
  slot: number;
  scalar: boolean;
  vector: boolean;
}

function sameMemory(a: Tensor, b: Tensor): boolean {
  if (a.op !== 'storage' || b.op !== 'storage') return false;
  const [x, y] = [a, b].map((node) => (node as Tensor<'storage'>).attributes);
  return x.storage === y.storage && x.offset === y.offset;
}

class Prelude {
  readonly bindings: Binding[] = [];
  /** Whether some binding holds f16. */
  half = false;
  private readonly declarations: string[] = [];
  private readonly functions: string[] = [];
  private readonly libraries = new Set<string>();
  private readonly leaves = new Map<Tensor, LeafUse>();

  constructor(
    private readonly task: Task,
    private readonly isLeaf: (node: Tensor) => boolean,
    private readonly isHalf: (node: Tensor) => boolean,
    body: string,
  ) {
    const { kernel } = task;
    for (const operand of kernel.operands) this.operand(operand, body);
    this.output(body);
    if (kernel.secondary) this.second();
    for (const [name, storage] of Object.entries(kernel.state ?? {})) this.state(name, storage);
    if (/\bstore_rounded4\(/.test(body)) this.rounded(kernel.rounded);
    for (const [use, leaf] of new Map([...this.leaves].map(([leaf, use]) => [use, leaf]))) this.accessor(leaf, use);
  }

  text(): string {
    return [
      ...this.declarations,
      ...[...this.libraries].map((name) => sourceOf(`lib/${name}`)),
      ...this.functions,
    ].join('\n');
  }

  private bind(binding: Binding): number {
    return this.bindings.push(binding) - 1;
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
    return [...body, `  return ${result};`].join('\n');
  }

  private evaluate(node: Tensor, emitter: Emitter, index: string, width: Width): string {
    const rule = ruleOf(node);
    if (!this.isLeaf(node) || (node === this.task.output && rule?.kind === 'index')) {
      return (rule as unknown as IndexRule<'add'>).emit(node as never, emitter, index, width);
    }
    const use = this.leaf(node);
    if (width === 4) use.vector = true;
    else use.scalar = true;
    return emitter.line(`read${use.slot}_${width}(${index})`);
  }

  /** One slot for each piece of memory, however many nodes name it: WebGPU forbids to bind it twice. */
  private leaf(node: Tensor): LeafUse {
    let use = this.leaves.get(node);
    if (!use) {
      const same = [...this.leaves].find(([other]) => sameMemory(other, node));
      use = same ? same[1] : { slot: this.bind({ leaf: node }), scalar: false, vector: false };
      this.leaves.set(node, use);
    }
    return use;
  }

  private accessor(leaf: Tensor, { slot, scalar, vector }: LeafUse): void {
    const buffer = `buffer${slot}`;
    if (isBytes(leaf)) {
      this.declare(slot, 'array<u32>');
      this.functions.push(
        `fn read${slot}_1(i: u32) -> u32 { return (${buffer}[i >> 2u] >> ((i & 3u) * 8u)) & 0xffu; }`,
      );
      this.functions.push(`fn read${slot}_4(i: u32) -> vec4u { return unpack4xU8(${buffer}[i >> 2u]); }`);
      return;
    }
    const [one, four] = [scalarType(leaf), vectorType(leaf)];
    if (this.isHalf(leaf)) {
      this.declareHalf(slot, scalar);
      if (scalar) this.functions.push(`fn read${slot}_1(i: u32) -> f32 { return f32(${buffer}[i]); }`);
      const lanes = `vec4f(${[0, 1, 2, 3].map((lane) => `f32(${buffer}[i + ${lane}u])`).join(', ')})`;
      const value = scalar ? lanes : `vec4f(${buffer}[i >> 2u])`;
      if (vector) this.functions.push(`fn read${slot}_4(i: u32) -> vec4f { return ${value}; }`);
      return;
    }
    this.declare(slot, `array<${scalar ? one : four}>`);
    if (scalar) this.functions.push(`fn read${slot}_1(i: u32) -> ${one} { return ${buffer}[i]; }`);
    if (!vector) return;
    const lanes = `${four}(${[0, 1, 2, 3].map((lane) => `${buffer}[i + ${lane}u]`).join(', ')})`;
    this.functions.push(`fn read${slot}_4(i: u32) -> ${four} { return ${scalar ? lanes : `${buffer}[i >> 2u]`}; }`);
  }

  private declare(slot: number, type: string): void {
    // Always read_write: the arena may be bound for reading and writing at once only under one usage.
    this.declarations.push(`@group(0) @binding(${slot}) var<storage, read_write> buffer${slot}: ${type};`);
  }

  private declareHalf(slot: number, scalar: boolean): void {
    this.half = true;
    this.declare(slot, `array<${scalar ? 'f16' : 'vec4<f16>'}>`);
  }

  private rounded(storage: TensorStorage | undefined): void {
    const slot = storage && this.bind({ storage });
    if (slot !== undefined) this.declareHalf(slot, false);
    const store = slot === undefined ? '' : ` buffer${slot}[i >> 2u] = vec4<f16>(value); `;
    this.functions.push(`fn store_rounded4(i: u32, value: vec4f) {${store}}`);
  }

  private output(body: string): void {
    const { core, output, kernel } = this.task;
    const wantsVector = /\bstore4\(/.test(body);
    if (!wantsVector && !/\bstore1\(/.test(body)) return;
    const fused = core !== output;
    // An assignment may read the storage that it writes: then both go through one binding, element by element.
    const own = output.op === 'assign' ? this.leafOf((output as Tensor<'assign'>).attributes.storage) : undefined;
    const wide = aligned(kernel.run) && wantsVector && !/\bstore1\(/.test(body) && !own;
    const scalar = scalarType(output);
    const vector = vectorType(output);
    const slot = own ? own.slot : this.bind({ output });
    if (own) own.scalar = true;
    const buffer = `buffer${slot}`;
    const half = this.isHalf(output);
    const kept = (value: string, width: Width) => (half ? `${width === 4 ? 'vec4<f16>' : 'f16'}(${value})` : value);
    this.functions.push(`const OUTPUT_ALIGNED = ${wide};`);
    const epilogue = (width: Width) => {
      const type = width === 4 ? vector : scalar;
      const coreType = width === 4 ? vectorType(core) : scalarType(core);
      const text = fused ? this.expression(output, width, core) : '  return value;';
      this.functions.push(`fn epilogue${width}(i: u32, value: ${coreType}) -> ${type} {\n${text}\n}`);
    };
    if (wide) {
      epilogue(4);
      if (half) this.declareHalf(slot, false);
      else this.declare(slot, `array<${vector}>`);
      this.functions.push(
        `fn store4(i: u32, value: ${vectorType(core)}, n: u32) { ${buffer}[i >> 2u] = ${kept('epilogue4(i, value)', 4)}; }`,
      );
      return;
    }
    epilogue(1);
    if (half) this.declareHalf(slot, true);
    else if (!own) this.declare(slot, `array<${scalar}>`);
    this.functions.push(
      `fn store1(i: u32, value: ${scalarType(core)}) { ${buffer}[i] = ${kept('epilogue1(i, value)', 1)}; }`,
    );
    if (!wantsVector) return;
    const lanes = [1, 2, 3].map((lane) => `  if (n > ${lane}u) { store1(i + ${lane}u, value[${lane}]); }`);
    this.functions.push(
      `fn store4(i: u32, value: ${vectorType(core)}, n: u32) {\n  store1(i, value[0]);\n${lanes.join('\n')}\n}`,
    );
  }

  private leafOf(storage: TensorStorage): LeafUse | undefined {
    return [...this.leaves].find(
      ([leaf]) => leaf.op === 'storage' && (leaf as Tensor<'storage'>).attributes.storage === storage,
    )?.[1];
  }

  private second(): void {
    const slot = this.bind({ second: this.task.core });
    this.declare(slot, 'array<f32>');
    this.functions.push(`fn store_second1(i: u32, value: f32) { buffer${slot}[i] = value; }`);
    this.functions.push(
      `fn store_second4(i: u32, value: vec4f, n: u32) {\n  for (var lane = 0u; lane < n; lane++) { buffer${slot}[i + lane] = value[lane]; }\n}`,
    );
  }

  private state(name: string, storage: TensorStorage): void {
    const slot = this.bind({ storage });
    this.declarations.push(`@group(0) @binding(${slot}) var<storage, read_write> ${name}: array<vec4f>;`);
  }
}

const isBytes = (node: Tensor) =>
  node.op === 'storage' && (node as Tensor<'storage'>).attributes.storage.dtype === 'u8';
const scalarType = (node: Tensor) => (node.dtype === 'f32' ? 'f32' : 'u32');
const vectorType = (node: Tensor) => (node.dtype === 'f32' ? 'vec4f' : 'vec4u');
