// The networks of the training steps, written once over `Ops`: every peer computes the same thing.
import type { Ops } from './ops.js';

export interface Network {
  /** One sample of the input; the target has the same shape. */
  sample: number[];
  /** Width of the time features that come with each sample. */
  time: number;
  parameters: Record<string, number[]>;
  apply<T>(ops: Ops<T>, p: Record<string, T>, x: T, time: T): T;
}

const linear = <T>(ops: Ops<T>, p: Record<string, T>, name: string, x: T) =>
  ops.add(ops.matmul(x, p[`${name}.w`]), p[`${name}.b`]);
const linearShapes = (name: string, from: number, to: number) => ({ [`${name}.w`]: [from, to], [`${name}.b`]: [to] });

/** Four layers of 256 with SiLU on points of the plane. */
function mlp(width: number, depth: number): Network {
  const shapes: Record<string, number[]> = { ...linearShapes('in', 2, width), ...linearShapes('time', 16, width) };
  for (let i = 1; i < depth; i++) Object.assign(shapes, linearShapes(`layer${i}`, width, width));
  return {
    sample: [2],
    time: 16,
    parameters: { ...shapes, ...linearShapes('out', width, 2) },
    apply: (ops, p, x, time) => {
      let h = ops.silu(ops.add(linear(ops, p, 'in', x), linear(ops, p, 'time', time)));
      for (let i = 1; i < depth; i++) h = ops.silu(linear(ops, p, `layer${i}`, h));
      return linear(ops, p, 'out', h);
    },
  };
}

/** A diffusion transformer with adaLN on 28 x 28 images in patches of 2 x 2, given as tokens. */
function dit(width: number, depth: number, heads: number): Network {
  const tokens = 196;
  const shapes: Record<string, number[]> = {
    ...linearShapes('embed', 4, width),
    position: [tokens, width],
    ...linearShapes('time', width, width),
  };
  for (let i = 0; i < depth; i++) {
    Object.assign(
      shapes,
      linearShapes(`${i}.condition`, width, 6 * width),
      linearShapes(`${i}.qkv`, width, 3 * width),
      linearShapes(`${i}.proj`, width, width),
      linearShapes(`${i}.up`, width, 4 * width),
      linearShapes(`${i}.down`, 4 * width, width),
    );
  }
  return {
    sample: [tokens, 4],
    time: width,
    parameters: { ...shapes, ...linearShapes('last', width, 2 * width), ...linearShapes('out', width, 4) },
    apply: (ops, p, x, time) => {
      const condition = ops.silu(linear(ops, p, 'time', time));
      // [N, parts * width] as parts of [N, 1, width]
      const modulation = (name: string, parts: number) =>
        ops.split(ops.reshape(linear(ops, p, name, condition), [-1, 1, parts * width]), parts);
      const modulate = <T>(o: Ops<T>, h: T, shift: T, scale: T) =>
        o.add(o.mul(o.layerNorm(h), o.offset(scale, 1)), shift);
      let h = ops.add(linear(ops, p, 'embed', x), p.position);
      for (let i = 0; i < depth; i++) {
        const [shift1, scale1, gate1, shift2, scale2, gate2] = modulation(`${i}.condition`, 6);
        const [q, k, v] = ops.split(linear(ops, p, `${i}.qkv`, modulate(ops, h, shift1, scale1)), 3);
        h = ops.add(h, ops.mul(gate1, linear(ops, p, `${i}.proj`, ops.attention(q, k, v, heads))));
        const inner = ops.gelu(linear(ops, p, `${i}.up`, modulate(ops, h, shift2, scale2)));
        h = ops.add(h, ops.mul(gate2, linear(ops, p, `${i}.down`, inner)));
      }
      const [shift, scale] = modulation('last', 2);
      return linear(ops, p, 'out', modulate(ops, h, shift, scale));
    },
  };
}

/** A small ADM UNet on 32 x 32 images: two levels, one residual block each, attention at 16 x 16. */
function unet(channels: number): Network {
  const [image, embedding, groups] = [3, 4 * channels, 8];
  const shapes: Record<string, number[]> = {};
  const conv = (name: string, from: number, to: number, size = 3) =>
    Object.assign(shapes, { [`${name}.w`]: [size, size, from, to], [`${name}.b`]: [to] });
  const block = (name: string, from: number, to: number) => {
    conv(`${name}.1`, from, to);
    Object.assign(shapes, linearShapes(`${name}.time`, embedding, to));
    conv(`${name}.2`, to, to);
    if (from !== to) conv(`${name}.skip`, from, to, 1);
  };
  const wide = 2 * channels;
  Object.assign(shapes, linearShapes('time', channels, embedding));
  conv('in', image, channels);
  block('down0', channels, channels);
  conv('shrink', channels, channels);
  block('down1', channels, wide);
  block('middle0', wide, wide);
  Object.assign(shapes, linearShapes('qkv', wide, 3 * wide), linearShapes('proj', wide, wide));
  block('middle1', wide, wide);
  block('up1', 2 * wide, wide);
  conv('grow', wide, wide);
  block('up0', wide + channels, channels);
  conv('out', channels, image);
  return {
    sample: [32, 32, image],
    time: channels,
    parameters: shapes,
    apply: <T>(ops: Ops<T>, p: Record<string, T>, x: T, time: T) => {
      const convolve = (name: string, h: T, stride = 1) =>
        ops.addToChannels(ops.conv(h, ops.filter(p[`${name}.w`]), stride), p[`${name}.b`]);
      const embedded = ops.silu(linear(ops, p, 'time', time));
      const residual = (name: string, h: T) => {
        let inner = convolve(`${name}.1`, ops.silu(ops.groupNorm(h, groups)));
        inner = ops.addToChannels(inner, linear(ops, p, `${name}.time`, embedded));
        inner = convolve(`${name}.2`, ops.silu(ops.groupNorm(inner, groups)));
        return ops.add(inner, p[`${name}.skip.w`] ? convolve(`${name}.skip`, h) : h);
      };
      const first = residual('down0', convolve('in', ops.images(x)));
      const second = residual('down1', convolve('shrink', first, 2));
      let h = residual('middle0', second);
      const [q, k, v] = ops.split(linear(ops, p, 'qkv', ops.tokens(ops.groupNorm(h, groups))), 3);
      h = ops.add(h, ops.fromTokens(linear(ops, p, 'proj', ops.attention(q, k, v, 4)), h));
      h = residual('middle1', h);
      h = residual('up1', ops.concatChannels(h, second));
      h = residual('up0', ops.concatChannels(convolve('grow', ops.upsample(h)), first));
      return ops.pixels(convolve('out', ops.silu(ops.groupNorm(h, groups))));
    },
  };
}

export const networks = { mlp: mlp(256, 4), dit: dit(192, 4, 3), unet: unet(64) };
