import { UserError } from '../errors.js';
import { broadcastShapes } from '../tensor/shape.js';
import { Tensor, constant, type OpName } from '../tensor/tensor.js';
import { expand } from './broadcast.js';
import { requireFloats } from './floats.js';
import type { GradientRule, IndexRule } from './rule.js';

// One shape and, but for conversions, one dtype throughout.
declare module '../tensor/tensor.js' {
  interface OpAttributes {
    add: object;
    sub: object;
    mul: object;
    div: object;
    maximum: object;
    minimum: object;
    greater: object;
    equal: object;
    where: object;
    neg: object;
    exp: object;
    log: object;
    sqrt: object;
    sin: object;
    cos: object;
    tanh: object;
    erf: object;
    abs: object;
    floor: object;
    toFloat: object;
    toIndex: object;
    stopGradient: object;
  }
}

/** What arithmetic takes: tensors, which broadcast, and numbers. */
export type Operand = Tensor | number;

function binary(
  op: 'add' | 'sub' | 'mul' | 'div' | 'maximum' | 'minimum' | 'greater' | 'equal',
  a: Operand,
  b: Operand,
): Tensor {
  const x = typeof a === 'number' ? constant(a, [], (b as Tensor).dtype) : a;
  const y = typeof b === 'number' ? constant(b, [], x.dtype) : b;
  sameType(op, x, y);
  const shape = broadcastShapes(x.shape, y.shape);
  return new Tensor(
    op,
    [expand(x, shape), expand(y, shape)],
    {},
    shape,
    op === 'greater' || op === 'equal' ? 'f32' : x.dtype,
  );
}

/** @throws UserError where operands are of different types */
function sameType(op: OpName, a: Tensor, b: Tensor): void {
  if (a.dtype !== b.dtype)
    throw new UserError(`${op} of ${a.dtype} and ${b.dtype}: convert one of them with toFloat or toIndex`);
}

// Of f32 or of u32, never of both; numbers take the other side's type. u32 wraps round at 2^32.

/** a + b, broadcast as in NumPy. */
export const add = (a: Operand, b: Operand): Tensor => (b === 0 && typeof a !== 'number' ? a : binary('add', a, b));
/** a - b. */
export const sub = (a: Operand, b: Operand): Tensor => binary('sub', a, b);
/** a · b. */
export const mul = (a: Operand, b: Operand): Tensor => (b === 1 && typeof a !== 'number' ? a : binary('mul', a, b));
/** a / b; of u32 without the rest, and a where b is 0. */
export const div = (a: Operand, b: Operand): Tensor => binary('div', a, b);
/** The greater of both; where they are equal, each gets half of the gradient, as in PyTorch. */
export const maximum = (a: Operand, b: Operand): Tensor => binary('maximum', a, b);
/** The lesser of both; where they are equal, each gets half of the gradient, as in PyTorch. */
export const minimum = (a: Operand, b: Operand): Tensor => binary('minimum', a, b);
/** 1 where a > b, else 0, as f32. */
export const greater = (a: Operand, b: Operand): Tensor => binary('greater', a, b);
/** 1 where a equals b, else 0, as f32. */
export const equal = (a: Operand, b: Operand): Tensor => binary('equal', a, b);

/**
 * `a` where the condition, of any type, is not 0, else `b`; unlike a weighted sum it lets no NaN of the other side through.
 */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  const x = typeof a === 'number' ? constant(a, [], (b as Tensor).dtype) : a;
  const y = typeof b === 'number' ? constant(b, [], x.dtype) : b;
  sameType('where', x, y);
  const shape = broadcastShapes(condition.shape, broadcastShapes(x.shape, y.shape));
  return new Tensor(
    'where',
    [expand(toFloat(condition), shape), expand(x, shape), expand(y, shape)],
    {},
    shape,
    x.dtype,
  );
}

/** Functions of one argument, by the names of their nodes. */
export type UnaryName = 'neg' | 'exp' | 'log' | 'sqrt' | 'sin' | 'cos' | 'tanh' | 'erf' | 'abs' | 'floor';
const unary = (op: UnaryName) => (x: Tensor) => {
  requireFloats(op, x);
  return new Tensor(op, [x], {}, x.shape);
};
/** -x. */
export const neg = unary('neg');
/** e to the power of x. */
export const exp = unary('exp');
/** The natural logarithm. */
export const log = unary('log');
/** The square root. */
export const sqrt = unary('sqrt');
/** The sine of radians. */
export const sin = unary('sin');
/** The cosine of radians. */
export const cos = unary('cos');
/** The hyperbolic tangent. */
export const tanh = unary('tanh');
/** The error function, 2/√π ∫₀ˣ exp(-t²) dt. */
export const erf = unary('erf');
/** The absolute value; its slope at 0 is 0. */
export const abs = unary('abs');
/** The greatest whole number that is not above x; without a gradient. */
export const floor = unary('floor');
/** x · x. */
export const square = (x: Tensor): Tensor => mul(x, x);
/** The values as f32. */
export const toFloat = (x: Tensor): Tensor => (x.dtype === 'f32' ? x : new Tensor('toFloat', [x], {}, x.shape));
/**
 * The values without their fractions as u32, to be used as indices; negative ones and NaN become 0, those of 2^32 and more
 * the greatest f32 below.
 */
export const toIndex = (x: Tensor): Tensor => (x.dtype === 'u32' ? x : new Tensor('toIndex', [x], {}, x.shape, 'u32'));
/** The values, through which no gradient flows. */
export const stopGradient = (x: Tensor): Tensor => new Tensor('stopGradient', [x], {}, x.shape, x.dtype);

/** @param wgsl from the operands, then the f32 type of their width, then the result's element type */
function rule<K extends OpName>(
  cost: number,
  wgsl: (...operands: string[]) => string,
  gradient: GradientRule<K> | null,
  library?: string,
): IndexRule<K> {
  return {
    kind: 'index',
    cost,
    access: 'same',
    emit: (node, emitter, index, width) => {
      if (library) emitter.include(library);
      return emitter.line(
        wgsl(
          ...node.inputs.map((input) => emitter.value(input, index, width)),
          width === 4 ? 'vec4f' : 'f32',
          node.dtype,
        ),
      );
    },
    gradient,
  };
}

/** The gradient of the greater of two with respect to the first. */
const ofGreater = (a: Tensor, b: Tensor, g: Tensor): Tensor =>
  where(greater(a, b), g, where(equal(a, b), mul(g, 0.5), 0));

const unsigned = (type: string): string => (type === 'f32' ? 'u32' : 'vec4u');

/** How each operation of this file is computed, and its gradient. */
export const pointwiseRules = {
  add: rule<'add'>(
    1,
    (a, b) => `${a} + ${b}`,
    (_, g) => [g, g],
  ),
  sub: rule<'sub'>(
    1,
    (a, b) => `${a} - ${b}`,
    (_, g) => [g, neg(g)],
  ),
  mul: rule<'mul'>(
    1,
    (a, b) => `${a} * ${b}`,
    ({ inputs: [a, b] }, g) => [mul(g, b), mul(g, a)],
  ),
  div: rule<'div'>(
    4,
    // Without a driver's own guard, a division of integers by 0 could be anything.
    (a, b, type, dtype) => (dtype === 'f32' ? `${a} / ${b}` : `${a} / max(${b}, ${unsigned(type)}(1u))`),
    (node, g) => [div(g, node.inputs[1]), neg(div(mul(g, node), node.inputs[1]))],
  ),
  maximum: rule<'maximum'>(
    1,
    (a, b) => `max(${a}, ${b})`,
    ({ inputs: [a, b] }, g) => [ofGreater(a, b, g), ofGreater(b, a, g)],
  ),
  minimum: rule<'minimum'>(
    1,
    (a, b) => `min(${a}, ${b})`,
    ({ inputs: [a, b] }, g) => [ofGreater(b, a, g), ofGreater(a, b, g)],
  ),
  greater: rule<'greater'>(1, (a, b, type) => `select(${type}(0f), ${type}(1f), ${a} > ${b})`, null),
  equal: rule<'equal'>(1, (a, b, type) => `select(${type}(0f), ${type}(1f), ${a} == ${b})`, null),
  where: rule<'where'>(
    1,
    (c, a, b, type) => `select(${b}, ${a}, ${c} != ${type}(0f))`,
    ({ inputs: [condition] }, g) => [null, where(condition, g, 0), where(condition, 0, g)],
  ),
  neg: rule<'neg'>(
    1,
    (x) => `-${x}`,
    (_, g) => [neg(g)],
  ),
  exp: rule<'exp'>(
    16,
    (x) => `exp(${x})`,
    (node, g) => [mul(g, node)],
  ),
  log: rule<'log'>(
    16,
    (x) => `log(${x})`,
    ({ inputs: [x] }, g) => [div(g, x)],
  ),
  sqrt: rule<'sqrt'>(
    4,
    (x) => `sqrt(${x})`,
    (node, g) => [div(mul(g, 0.5), node)],
  ),
  sin: rule<'sin'>(
    16,
    (x, type) => (type === 'f32' ? `sin1(${x})` : `sin4(${x})`),
    ({ inputs: [x] }, g) => [mul(g, cos(x))],
    'sine',
  ),
  cos: rule<'cos'>(
    16,
    (x, type) => (type === 'f32' ? `cos1(${x})` : `cos4(${x})`),
    ({ inputs: [x] }, g) => [neg(mul(g, sin(x)))],
    'sine',
  ),
  tanh: rule<'tanh'>(
    16,
    (x, type) => (type === 'f32' ? `tanh1(${x})` : `tanh4(${x})`),
    (node, g) => [mul(g, sub(1, square(node)))],
    'tanh',
  ),
  erf: rule<'erf'>(
    32,
    (x, type) => (type === 'f32' ? `erf1(${x})` : `erf4(${x})`),
    ({ inputs: [x] }, g) => [mul(g, mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI)))],
    'erf',
  ),
  abs: rule<'abs'>(
    1,
    (x) => `abs(${x})`,
    ({ inputs: [x] }, g) => [where(greater(x, 0), g, where(greater(0, x), neg(g), 0))],
  ),
  floor: rule<'floor'>(1, (x) => `floor(${x})`, null),
  toFloat: rule<'toFloat'>(1, (x, type) => `${type}(${x})`, null),
  toIndex: rule<'toIndex'>(
    1,
    (x, type) => `${unsigned(type)}(select(${type}(), min(${x}, ${type}(4294967040f)), ${x} > ${type}()))`,
    null,
  ),
  stopGradient: rule<'stopGradient'>(0, (x) => x, null),
};
