import { existsSync } from 'node:fs';

/** Debian's Chromium; undefined where there is none. */
export const chromiumPath = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => existsSync(path));

/** Headless, with WebGPU on the processor, and silent towards the network. */
export const chromiumFlags = [
  '--headless=new --no-sandbox --disable-gpu-sandbox --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader',
  '--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync',
].flatMap((line) => line.split(' '));
