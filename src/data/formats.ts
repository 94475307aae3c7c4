import { cifar } from './cifar.js';
import { cifarPython } from './cifar-python.js';
import type { DataFormat } from './format.js';
import { idx } from './idx.js';
import { numpy } from './numpy.js';
import { pictures } from './pictures.js';
import { stl10 } from './stl10.js';
import { tensors } from './tensors.js';

/** What is read, in the order of trying: pictures last, since previews lie beside data of every kind. */
export const formats: readonly DataFormat[] = [numpy, tensors, idx, stl10, cifar, cifarPython, pictures];
