import type { Tensor } from '../tensor/tensor.js';
import type { Emitter, Width } from './rule.js';

/** For each output axis its extent and the step it makes in the input; both row-major flat, in elements. */
export interface StridedView {
  axes: { extent: number; stride: number }[];
  /** Where the first element is; left out where a view of this kind always begins at the start. */
  offset?: number;
}

/**
 * The same map with as few axes as possible: extents of 1 dropped, axes that run on into each other joined. The first axis
 * stays, as it is where samples lie: one sample is to be found as several are, by the same kernel.
 */
export function simplify(view: StridedView): StridedView {
  const axes: StridedView['axes'] = [];
  for (const [i, axis] of view.axes.entries()) {
    if (axis.extent === 1 && i > 0) continue;
    const outer = axes.at(-1);
    if (outer && outer.stride === axis.stride * axis.extent) {
      axes[axes.length - 1] = { extent: outer.extent * axis.extent, stride: axis.stride };
    } else axes.push({ ...axis });
  }
  return { axes, offset: view.offset };
}

type Pattern = 'vector' | 'splat' | 'scatter';

/** How 4 aligned consecutive outputs lie in the input. */
export function patternOf({ axes: all, offset = 0 }: StridedView): Pattern {
  const axes = all.filter(({ extent }) => extent > 1);
  const inner = axes.at(-1);
  if (axes.every(({ stride }) => stride === 0)) return 'splat';
  if (!inner || inner.extent % 4) return 'scatter';
  if (inner.stride === 0) return 'splat';
  const aligned = inner.stride === 1 && offset % 4 === 0 && axes.slice(0, -1).every(({ stride }) => stride % 4 === 0);
  return aligned ? 'vector' : 'scatter';
}

/** Emits the input's value under a simplified view. */
export function emitView(emitter: Emitter, input: Tensor, view: StridedView, index: string, width: Width): string {
  const at = (i: string) => inputIndex(emitter, view, i);
  if (width === 1) return emitter.value(input, at(index), 1);
  return emitLanes(emitter, input, patternOf(view), index, at);
}

/** Emits 4 values of an input of which the index map and its pattern are known. */
function emitLanes(
  emitter: Emitter,
  input: Tensor,
  pattern: Pattern,
  index: string,
  at: (index: string) => string,
): string {
  const type = input.dtype === 'f32' ? 'vec4f' : 'vec4u';
  if (pattern === 'vector') return emitter.value(input, at(index), 4);
  if (pattern === 'splat') return emitter.line(`${type}(${emitter.value(input, at(index), 1)})`);
  const lanes = [0, 1, 2, 3].map((lane) =>
    emitter.value(input, at(lane ? emitter.line(`${index} + ${lane}u`) : index), 1),
  );
  return emitter.line(`${type}(${lanes.join(', ')})`);
}

function inputIndex(emitter: Emitter, { axes, offset }: StridedView, index: string): string {
  const terms: string[] = [];
  let rest = index;
  for (let axis = axes.length - 1; axis >= 0; axis--) {
    const { extent, stride } = axes[axis];
    const coordinate = axis ? emitter.line(`${rest} % ${extent}u`) : rest;
    if (stride) terms.push(stride === 1 ? coordinate : `${coordinate} * ${stride}u`);
    if (axis) rest = emitter.line(`${rest} / ${extent}u`);
  }
  // An offset of 0 is data like any other: slices that differ in it are one kernel.
  if (offset !== undefined || !terms.length) terms.push(`${offset ?? 0}u`);
  return terms.length === 1 && /^\w+$/.test(terms[0]) ? terms[0] : emitter.line(terms.join(' + '));
}
