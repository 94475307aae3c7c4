/** The library with what Node has: files, and devices through Dawn. */
export * from '../index.js';
export { adapterAt } from './adapter.js';
export { openDevice } from './device.js';
export { fileSource, readSafetensors, readWeights, writeFileAtomic, writeSafetensors } from './files.js';
export { filesAt, folderStore, modelFolderAt } from './folder.js';
export { pipelineAt } from './pipeline.js';
export { pictureAt } from './pictures.js';
export { loadDataset } from './data.js';
export { loadBackbone } from './module.js';
export { MpiGroup } from './mpi.js';
