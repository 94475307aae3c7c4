#!/usr/bin/env bash
# What a GPU does with semiflow, in one command: bench/gpu.sh [SECONDS]   (480 by default; results in $OUT, default gpu-results)
# bench/gpu.sh --pack   makes .gpu/ with all that a bare machine may lack: Node, the packages, the Vulkan loader. Where such a
#                       folder lies beside the sources, it is unpacked first; nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --pack ]; then
  rm -rf .gpu && mkdir .gpu
  # What nothing of it runs: other platforms, tools of development, engines to compare with. Their package.json stays, by
  # which a clone knows that it is complete.
  excluded=(webgpu/dist/darwin-universal webgpu/dist/linux-arm64 'webgpu/dist/win32-*' onnxruntime-web/dist typescript/lib
    playwright-core/lib prettier/plugins prettier/internal '@oxlint/*/oxlint' knip/dist typedoc/dist '@shikijs/*/dist'
    '@arethetypeswrong/*/dist' 'axe-core/*.js' '@img/*/lib' highlight.js/lib lru-cache/dist/cjs)
  tar -chf - "${excluded[@]/#/--exclude=node_modules/}" --exclude='*.map' --exclude='*.md' node_modules | xz -T0 -6 >.gpu/node_modules.tar.xz
  tar -C "$(dirname "$(readlink -f "$(command -v /usr/bin/node || command -v node)")")" -chf - node | xz -T0 -6 >.gpu/node.tar.xz
  (cd .gpu && apt-get download libvulkan1 >/dev/null 2>&1) || echo 'without the Vulkan loader, which apt-get could not download'
  du -sh .gpu
  exit
fi

command -v node >/dev/null || { mkdir -p /tmp/semiflow-node && tar -C /tmp/semiflow-node -xf .gpu/node.tar.xz; export PATH="/tmp/semiflow-node:$PATH"; }
[ -d node_modules ] || tar -xf .gpu/node_modules.tar.xz
if ! ldconfig -p | grep -q libvulkan && ls .gpu/libvulkan1*.deb >/dev/null 2>&1; then
  dpkg -x .gpu/libvulkan1*.deb / && ldconfig
fi
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
[ -n "${VK_DRIVER_FILES:-}" ] || [ ! -f "$nvidia" ] || export VK_DRIVER_FILES="$nvidia"
node scripts/embed-kernels.js
exec node --import tsx bench/gpu.ts "${1:-480}"
