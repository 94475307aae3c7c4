import { cpSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import ts from 'typescript';
import { writeCommonJs } from '../../scripts/commonjs.js';
import { writeWatchPage } from '../../scripts/watch-page.js';

/**
 * Compiles the package and installs it in the project at `folder`, beside everything that is installed here, with its
 * command where npm puts it.
 * @returns where it lies
 */
export async function installPackage(folder: string): Promise<string> {
  const modules = join(folder, 'node_modules');
  const installed = join(modules, 'semiflow');
  mkdirSync(installed, { recursive: true });
  for (const name of readdirSync('node_modules'))
    if (name !== 'semiflow' && name !== '.bin') symlinkSync(resolve('node_modules', name), join(modules, name));
  mkdirSync(join(modules, '.bin'));
  symlinkSync('../semiflow/bin/semiflow.js', join(modules, '.bin', 'semiflow'));
  const { config } = ts.readConfigFile('tsconfig.build.json', ts.sys.readFile);
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, '.', {}, 'tsconfig.build.json');
  ts.createProgram(fileNames, { ...options, outDir: join(installed, 'dist'), noCheck: true }).emit();
  writeCommonJs(join(installed, 'dist'));
  await writeWatchPage(join(installed, 'dist', 'watch'));
  for (const name of [
    'bin',
    'checkpoints',
    'docs',
    'package.json',
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'CITATION.cff',
  ])
    cpSync(name, join(installed, name), { recursive: true });
  return installed;
}
