import { Argument, Command, CommanderError, Option } from 'commander';
import { UserError } from '../src/errors.js';
import { numberBetween, wholeNumber } from './arguments.js';
import { called } from './called.js';
import { addKnobs } from './config.js';
import {
  autoencodingDefaults,
  classificationDefaults,
  distillationDefaults,
  teacherDefaults,
} from '../trainers/config.js';
import { learnsFromData, methodNames, methods } from '../trainers/methods.js';
import { violationBudget } from '../src/experiments/budget.js';
import { experimentNames } from '../src/experiments/index.js';
import { adapterStyles } from '../src/export/adapter.js';
import { samplerNames, samplers, type SamplerEntry } from '../src/flow/samplers.js';
import { loadObjective } from '../node/module.js';
import { solvers } from '../src/flow/solvers.js';
import { version } from '../src/version.js';
import { withNearest } from './other-names.js';
import { orShipped } from './shipped.js';
import { autoencodingKnobs, classificationKnobs, distillationKnobs, teacherKnobs } from './knobs.js';

const portNumber = (text: string): number => wholeNumber('--watch', text, { least: 1, most: 65535 });
const watchHelp = 'serve the run as a page of this machine alone while it goes on: losses, rates, pictures, the report';

/** What every command that trains takes. */
const addTraining = (command: Command): Command =>
  command
    .option('--config <yaml>', 'recipe; flags override it')
    .option('--resume <folder>', 'go on with a run, to the bit')
    .option(
      '--log-every <steps>',
      'steps between logged metrics',
      (text) => wholeNumber('--log-every', text, { least: 1 }),
      10,
    )
    .option(
      '--save-every <seconds>',
      'seconds between checkpoints',
      (text) => numberBetween('--save-every', text, 0, 1e9),
      60,
    )
    .option(
      '--accumulate <parts>',
      'compute each batch in so many parts, one after another: less memory, the same step to rounding',
      (text) => wholeNumber('--accumulate', text, { least: 1 }),
    )
    .addOption(
      new Option(
        '--exchange <type>',
        'what gradients travel in between ranks: f32, or f16 for slow links, whose rounding the next steps make up for (default f32)',
      ).choices(['f32', 'f16']),
    )
    .option('--profile', 'print where the time of a step goes')
    .option('--print-config', 'print the resolved recipe and leave')
    .option('--watch [port]', watchHelp, portNumber);

const adapterHelp =
  'low-rank adapter to be folded in, in the styles of kohya, PEFT or diffusers or from `train --lora-rank`; may be given again';

const several = (value: string, before: string[] = []): string[] => [...before, value];

/** What people train flow maps of points and of images by, as help shows defaults. */
const [pointShape, imageShape] = [[2], [1, 28, 28]];

/** Shown below the options of a command: a test runs it as it stands. */
const example = (line: string): string => `\nExample:\n  semiflow ${line}`;
const shippedMap = 'checkpoints/flow-map-fashion-mnist.safetensors';

/** What `train` takes. */
function addTrain(command: Command): Command {
  command
    .option('--teacher <file>', 'teacher, as safetensors, as PyTorch saved it, or a folder as diffusers saves it')
    .option('--arch <yaml or module>', 'what the teacher is, where its file does not say so')
    .option('--student <file>', 'a flow map of the same teacher that goes on learning, with a fresh optimizer')
    .option('--data <name or path>', 'data to mix x_t from; without it the teacher samples its own')
    .option('--method <name>', 'preset of the recipe, listed below (default fmap)')
    .option('--model <kind>', 'without a teacher: mlp, sit, vit or unet, with the default size for the data')
    .option('--objective <module>', "an objective of one's own, which has its flags then; may be given again", several)
    .option('--out <folder>', 'run folder (default runs/flow-map)')
    .option('--no-evaluate', 'leave out the evaluation at the end');
  addKnobs(addTraining(command), distillationKnobs(), {
    points: distillationDefaults(pointShape, 'velocity'),
    images: distillationDefaults(imageShape, 'velocity'),
  });
  return command.addHelpText('after', () => methodsHelp());
}

/** What `teacher` takes. */
function addTeacher(command: Command): Command {
  command
    .option('--data <name or path>', 'data set: a name such as checkerboard, or IDX files')
    .option('--model <kind>', 'mlp, sit, vit or unet, with the default size for the data')
    .option(
      '--init <file or folder>',
      'go on from the weights of a teacher; from the folder of its run, with its optimizer as well',
    )
    .option(
      '--arch <yaml, module or folder>',
      'the architecture in full, instead of --model, or as a folder of diffusers says it; with --init what that file is',
    )
    .option('--prediction <kind>', 'velocity, noise, data or v (default velocity)')
    .option('--path <name>', 'straight, vp-linear, vp-scaled-linear, vp-cosine or ve (default straight)')
    .option(
      '--out <file or folder>',
      'where the teacher is written (default rf.safetensors), of a folder of diffusers also as one, with a slash at its end',
    )
    .option('--run <folder>', 'run folder (default: runs/ and the name of the file, beside it)');
  return addKnobs(addTraining(command), teacherKnobs, {
    points: teacherDefaults(pointShape),
    images: teacherDefaults(imageShape),
  });
}

/** What `sample` takes, but for where samples go. */
function addSampling(sampling: Command): Command {
  sampling
    .requiredOption('--model <file>', 'safetensors')
    .option('--arch <yaml or module>', 'what the file is, where it does not say so')
    .addOption(
      new Option(
        '--sampler <name>',
        'how (default: euler for a teacher, for a flow map what it was trained for)',
      ).choices(samplerNames),
    )
    .option(
      '--nfe <n>',
      'network evaluations in equal steps, each as many as is listed below, twice as many under guidance of a teacher (default: one jump of a flow map, 50 steps of a teacher)',
    )
    .option('--times <list>', 'the times of all steps instead, such as 1,0.7,0.3,0')
    .option('--guidance <scale>', 'classifier-free guidance (default 1, or the least that a flow map learned)')
    .option('--n <count>', 'samples', '64')
    .option('--label <class>', 'one class for all, or none; by default the classes take turns')
    .option(
      '--conditions <file>',
      'safetensors with what else it is told, such as context [tokens, width]; negative.context is what guidance leads away from',
    )
    .option('--seed <n>', 'seed of the noise', '0');
  addSamplerOptions(sampling);
  return sampling.addHelpText(
    'after',
    () =>
      `\nSamplers:\n${listed.map(([name, { help, evaluations, jumps }]) => `  ${name.padEnd(16)}${help}; ${evaluations} ${evaluations === 1 ? 'evaluation' : 'evaluations'} a step${jumps ? ', of flow maps' : ''}`).join('\n')}`,
  );
}

/** What commands take that run a pipeline's networks over latents. */
function addPipeline(command: Command): Command {
  command
    .requiredOption('--pipeline <folder>', 'as diffusers saves one: unet, vae, text_encoder, tokenizer and scheduler')
    .option('--weights <variant>', 'of all weights, such as fp16')
    .requiredOption('--prompt <text>', 'what is to be seen')
    .option('--negative <text>', 'what guidance leads away from', '')
    .option('--guidance <scale>', 'classifier-free guidance (default 7.5, of a flow map the least that it learned)')
    .option('--steps <n>', 'steps (default 30, of a flow map 4)')
    .option(
      '--sampler <name>',
      "as of `sample`, or a scheduler's class in diffusers, at the timesteps of the folder's configuration (default: the folder's own)",
    )
    .option('--size <n or HxW>', 'of the pictures (default: what the pipeline was made for)')
    .option('--n <count>', 'pictures', '1')
    .option('--seed <n>', 'seed of the noise', '0')
    .addOption(
      new Option(
        '--guidance-calls <n>',
        'ask with and without the text in one call, or in two of half the memory (default: as memory allows)',
      ).choices(['1', '2']),
    )
    .option('--vae-tile <pixels>', 'side of the tiles that the autoencoder works in (default: as memory allows)')
    .requiredOption('--out <file>', '.png, .npy or .safetensors, or a folder of PNG with a slash at its end');
  addSamplerOptions(command, ['gamma', 'eta']);
  return addAdapters(command);
}

/**
 * Loads the objectives of one's own that a command line names: flags follow from them, so it comes before `createProgram`.
 * @throws UserError where one cannot be loaded
 */
export async function loadObjectives(args: readonly string[]): Promise<void> {
  for (const [i, arg] of args.entries()) {
    const [name, module = args[i + 1]] = arg.split(/=(.*)/s);
    if (name === '--objective' && module !== undefined) await loadObjective(module);
  }
}

/** The command line: every command with its options. Errors are thrown, none is printed. */
export function createProgram(): Command {
  const program = new Command('semiflow')
    .description(
      'Distils a generative teacher, a velocity field v(x, t), into a flow map f(x, t, s) that jumps from any time to any time in one call.',
    )
    .version(version)
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .configureHelp({ sortSubcommands: false })
    .hook('preAction', (_, command) => findShipped(command))
    .addHelpText('after', `\nBegin with \`${called} demo\`; \`${called} help COMMAND\` shows what a command takes.`);
  const withDevice: Command[] = [];
  /** A command that opens a device. */
  const computing = (name: string): Command => {
    const command = program.command(name);
    withDevice.push(command);
    return command;
  };

  computing('demo')
    .description('distil the shipped checkerboard teacher and show what came of it, in minutes')
    .option('--out <folder>', 'run folder', 'runs/demo')
    .action(async (flags) => (await import('./demo.js')).demo(flags));

  addTrain(computing('train').description('distil a teacher into a flow map, or train one from data')).action(
    async (flags) => {
      if (!flags.teacher && !flags.resume && !flags.data && !flags.config && !flags.printConfig)
        throw new UserError('train needs --teacher FILE (or --resume FOLDER): `semiflow demo` shows one');
      await (await import('./train.js')).train(flags);
    },
  );

  addTeacher(computing('teacher').description('train a teacher on data: a rectified flow, or a diffusion')).action(
    async (flags) => {
      if (!flags.data && !flags.resume && !flags.config)
        throw new UserError('teacher needs --data NAME|PATH (or --resume FOLDER)');
      await (await import('./teacher.js')).trainTeacherCommand(flags);
    },
  );

  const classifier = computing('classifier')
    .description('train a classifier of images, whose features judge samples')
    .option('--data <path>', 'labelled images')
    .option('--arch <yaml>', 'the architecture, instead of the default for the data')
    .option('--out <file>', 'where the classifier is written (default classifier.safetensors)')
    .option('--run <folder>', 'run folder (default: runs/ and the name of the file, beside it)')
    .action(async (flags) => {
      if (!flags.data && !flags.resume && !flags.config)
        throw new UserError('classifier needs --data PATH (or --resume FOLDER)');
      await (await import('./classifier.js')).trainClassifierCommand(flags);
    });
  addKnobs(addTraining(classifier), classificationKnobs, {
    points: classificationDefaults,
    images: classificationDefaults,
  });

  const vae = computing('vae')
    .description('train an autoencoder of pictures, between which and a network over latents a pipeline is made')
    .option('--data <path>', 'pictures')
    .option('--arch <yaml>', "options of diffusers' AutoencoderKL, instead of the default for the data")
    .option('--out <folder>', 'where it is written as diffusers saves one, with a slash at its end (default vae/)')
    .option('--run <folder>', 'run folder (default: runs/ and the name of the folder)')
    .action(async (flags) => {
      if (!flags.data && !flags.resume && !flags.config)
        throw new UserError('vae needs --data PATH (or --resume FOLDER)');
      await (await import('./vae.js')).trainVaeCommand(flags);
    });
  addKnobs(addTraining(vae), autoencodingKnobs, { points: autoencodingDefaults, images: autoencodingDefaults });

  addSampling(computing('sample').description('draw samples from a flow map or a teacher'))
    .requiredOption('--out <file>', '.png, .npy, .npz or .safetensors, or a folder of PNG with a slash at its end')
    .action(async (flags) => (await import('./sample.js')).sample(flags));

  addPipeline(computing('generate').description('paint pictures of a text by a latent pipeline of diffusers')).action(
    async (flags) => (await import('./generate.js')).generateCommand(flags),
  );
  addPipeline(computing('inpaint').description('paint what a mask hides of a picture, to a text'))
    .requiredOption('--image <file>', 'the picture')
    .requiredOption('--mask <file>', 'a picture of its size, white where to paint')
    .option('--strength <share>', 'of the steps, the last ones: below 1 what is painted starts from the picture', '1')
    .action(async (flags) => (await import('./generate.js')).inpaintCommand(flags));

  const plan = program
    .command('plan')
    .description('say what a command would need of memory, without running it; takes the flags of that command')
    .allowExcessArguments()
    .action((_, { args: [other] }: Command) => {
      throw new UserError(
        `plan is for train, teacher or sample${other === undefined ? '' : `, not for ${other}`}: say which`,
      );
    });
  const planning = (name: string) => {
    const command = plan
      .command(name)
      .option(
        '--limits <figures>',
        'plan for default, what WebGPU promises, or for memory=8GiB,host=16GiB,binding=128MiB,buffer=256MiB,buffers=8, instead of this adapter',
      );
    withDevice.push(command);
    return command;
  };
  addTrain(planning('train').description('what `train` would need')).action(async (flags) =>
    (await import('./plan.js')).planTrain(flags),
  );
  addTeacher(planning('teacher').description('what `teacher` would need')).action(async (flags) =>
    (await import('./plan.js')).planTeacherCommand(flags),
  );
  addSampling(planning('sample').description('what `sample` would need'))
    .option('--out <file>', 'as of sample; nothing is written')
    .action(async (flags) => (await import('./plan.js')).planSample(flags));

  computing('jump')
    .description('apply f(x, t, s) to given tensors')
    .requiredOption('--model <file>', 'flow map')
    .option('--arch <yaml or module>', 'what the file is, where it does not say so')
    .requiredOption('--input <file>', 'safetensors with x [n, ...], optionally labels, t and s [n]')
    .option('--from <tensor>', 'the tensor to start from, such as the noise of `sample`', 'x')
    .option('--t <time>', 'for all samples, unless the file has t')
    .option('--s <time>', 'for all samples, unless the file has s')
    .requiredOption('--out <file>', 'safetensors')
    .addHelpText('after', example(`jump --model ${shippedMap} --input half.safetensors --s 0 --out whole.safetensors`))
    .action(async (flags) => (await import('./operators.js')).jump(flags));

  computing('invert')
    .description('from data to the noise that leads to it')
    .requiredOption('--model <file>', 'a flow map that learned forward jumps, or a teacher')
    .option('--arch <yaml or module>', 'what the file is, where it does not say so')
    .requiredOption('--input <file>', 'safetensors with x [n, ...], optionally labels [n]')
    .option('--steps <n>', 'equal steps (default: one jump, or 50 steps of a solver)')
    .addOption(
      new Option('--sampler <name>', 'default: jump where it was learned, else heun').choices(['jump', ...solvers]),
    )
    .requiredOption('--out <file>', 'safetensors with x, the noise, at t = 1')
    .addHelpText('after', example(`invert --model ${shippedMap} --input clothes.safetensors --out noise.safetensors`))
    .action(async (flags) => (await import('./operators.js')).invert(flags));

  program
    .command('merge')
    .description(
      'fold into a network what changes it: low-rank adapters, of `train --lora-rank` or of others, or a weaker network',
    )
    .requiredOption('--model <file>', 'the network')
    .option('--arch <yaml or module>', 'what the network is, where its file does not say so')
    .option('--lora <file[:scale]>', adapterHelp, several)
    .option('--weak <file>', 'a weaker teacher of its kind, such as its own earlier weights, that it is led away from')
    .option('--autoguidance <scale>', 'how far, such as 2: 1 is not at all')
    .requiredOption('--out <file>', 'safetensors')
    .action(async (flags) => (await import('./merge.js')).merge(flags));

  computing('study')
    .description('run a grid of recipes and seeds, and tabulate what came of it')
    .argument('<yaml>', 'teacher, data, seeds and recipes')
    .option('--out <folder>', 'where runs, tables and the report go (default runs/ and the name of the file)')
    .option('--watch [port]', watchHelp, portNumber)
    .addHelpText('after', example('study docs/studies/methods.yaml --out runs/methods'))
    .action(async (file, flags) => (await import('./study.js')).study(file, flags));

  program
    .command('compare')
    .description('what came of several runs: one table, one figure; runs that differ in their seed alone are one row')
    .argument('<folders...>', 'folders of runs that came to their end, or of studies')
    .option('--out <file>', '.html, .md, .json, or .svg for the figure; may be given again', several)
    .option('--json', 'print JSON for programs instead of a table')
    .action(async (folders: string[], flags) => (await import('./compare.js')).compare(folders, flags));

  computing('experiment')
    .description('compare jumps with integration on images: few steps, composition, chains of edits')
    .addArgument(new Argument('<which>', 'the experiment').choices([...experimentNames, 'all']))
    .option('--teacher <file>', 'teacher of images (default: the shipped ones of Fashion-MNIST, all of them)')
    .option('--arch <yaml or module>', 'what the teacher is, where its file does not say so')
    .option('--flow-map <file>', 'its flow map')
    .option('--consistency <file>', 'its consistency student')
    .option('--ctm <file>', 'a CTM student to compare')
    .option('--meanflow <file>', 'a MeanFlow student to compare')
    .option('--data <path>', "held-out images to work on (default: the teacher's own samples)")
    .option('--features <file>', 'classifier whose features judge the images')
    .option('--features-arch <yaml>', 'what the classifier is, where its file does not say so')
    .option('--mask <name or png>', 'centre, half, strokes, or a PNG that is white where to fill', 'centre')
    .option('--images <n>', 'images', '256')
    .option('--seed <n>', 'seed of noise, times and resampling', '0')
    .option('--out <folder>', 'where results and the report go (default runs/experiment-<which>)')
    .optionsGroup('Of a latent pipeline of diffusers (steps and drift):')
    .option('--pipeline <folder>', 'the pipeline, in place of a teacher')
    .option('--image <file>', 'a picture to paint in, where --mask is white; may be given again', several)
    .option('--prompt <text>', 'what is to be seen')
    .option('--negative <text>', 'what guidance leads away from (default: the empty text)')
    .option('--guidance <scale>', 'classifier-free guidance of all methods (default 7.5)')
    .option('--lcm-lora <file>', 'adapter of a distillation to the end point (LCM)')
    .option('--tcd-lora <file>', 'adapter of a distillation along trajectories (TCD)')
    .option('--flow-map-lora <file>', 'adapter of its flow map, from `train --lora-rank`')
    .option('--seeds <n>', 'noises for each picture (default 4)')
    .option('--vae-tile <pixels>', 'side of the tiles that the autoencoder works in (default: as memory allows)')
    .optionsGroup('Options:')
    .addHelpText('after', example('experiment drift --out runs/drift'))
    .action(async (which, flags) => (await import('./experiment.js')).experiment(which, flags));

  computing('check')
    .description('test the semigroup law of a flow map: exit code 0 within the budget, 1 over it')
    .requiredOption('--model <file>', 'flow map')
    .option('--arch <yaml or module>', 'what the file is, where it does not say so')
    .option('--budget <share>', "largest mean violation allowed, of the data's variance", String(violationBudget))
    .option('--data <name or path>', "held-out data to start from (default: the flow map's own samples)")
    .option('--samples <n>', 'samples (default 4096 for points, 256 for images)')
    .option('--seed <n>', 'seed of the noise', '0')
    .option('--out <file>', 'heat map over (t, s) as .svg, or all figures as .json')
    .action(async (flags) => (await import('./check.js')).checkCommand(flags));

  computing('velocity')
    .description('apply v(x, t) to given tensors')
    .requiredOption('--model <file>', 'teacher, or flow map for u(x, t, t)')
    .option('--arch <yaml or module>', 'what the file is, where it does not say so')
    .requiredOption(
      '--input <file>',
      'safetensors with x [n, ...], optionally labels and t [n], and what else it is told',
    )
    .option('--from <tensor>', 'the tensor to start from, such as the noise of `sample`', 'x')
    .option('--t <time>', 'for all samples, unless the file has t')
    .requiredOption('--out <file>', 'safetensors')
    .addHelpText(
      'after',
      example(
        'velocity --model checkpoints/rf-fashion-mnist.safetensors --input half.safetensors --out velocity.safetensors',
      ),
    )
    .action(async (flags) => (await import('./operators.js')).velocity(flags));

  computing('eval')
    .description("measure a flow map against its teacher's true flow")
    .requiredOption('--model <file>', 'flow map')
    .requiredOption('--teacher <file>', 'the teacher that it was distilled from')
    .option('--arch <yaml or module>', 'what the teacher is, where its file does not say so')
    .option(
      '--data <name or path>',
      'data for test points and sample quality (default: the data that the teacher names, or its samples)',
    )
    .option('--features <file>', 'classifier whose features also judge samples of images')
    .option('--features-arch <yaml>', 'what the classifier is, where its file does not say so')
    .option('--reference <npz>', "published statistics of the features, mu and sigma, instead of the data's")
    .option(
      '--samples <n>',
      'test points (default 6000 for points, 512 for images, fewer for more than a million weights)',
    )
    .option('--seed <n>', 'seed of the test points', '0')
    .option('--out <file>', 'also write everything as JSON')
    .action(async (flags) => (await import('./evaluate.js')).evaluateCommand(flags));

  computing('bias')
    .description('print from a teacher alone the error that each ε and solver converges to')
    .requiredOption('--teacher <file>', 'teacher')
    .option('--arch <yaml or module>', 'what the teacher is, where its file does not say so')
    .option('--samples <n>', 'test points (default 2000 for points, 64 for images)')
    .option('--seed <n>', 'seed of the test points', '0')
    .addHelpText('after', example('bias --teacher checkpoints/rf-checkerboard.safetensors'))
    .action(async (flags) => (await import('./bias.js')).bias(flags));

  program
    .command('info')
    .description('say what a file is, and what is missing')
    .argument('<files...>', 'files of weights, and folders of runs or as diffusers saves networks')
    .option('--arch <yaml or module>', 'check this description against the files')
    .option('--data <name or path>', 'say how well a teacher fits it, which opens a device')
    .action(async (files: string[], flags) => {
      const { info } = await import('./info.js');
      for (const file of files) await info(file, flags);
    });

  program
    .command('import')
    .description('bake a description into a foreign state dict')
    .argument('<input>', 'file of weights, or a folder as diffusers saves one')
    .argument('<output>', 'safetensors')
    .option('--arch <yaml or module>', 'what the file is; a folder says it itself')
    .action(async (input, output, flags) => (await import('./import.js')).importCommand(input, output, flags));

  const exporting = program
    .command('export')
    .description('write a network for other programs: an ONNX file, or a state dict for PyTorch')
    .requiredOption('--model <file>', 'flow map or teacher')
    .option('--arch <yaml or module>', 'what the file is, where it does not say so')
    .addOption(
      new Option(
        '--to <kind>',
        'what is written; of the adapter of a distillation its low-rank products, for kohya or peft',
      )
        .choices(['onnx', 'pytorch', ...adapterStyles])
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--sampler <name>', 'with fixed steps, noise goes in and samples come out: how').choices(samplerNames),
    )
    .option('--nfe <n>', 'network evaluations of the sampler, in equal steps; without them the network itself')
    .option('--times <list>', 'the times of all steps instead, such as 1,0.7,0.3,0')
    .option('--guidance <scale>', 'classifier-free guidance (default 1, or the least that a flow map learned)')
    .requiredOption('--out <file>', '.onnx or .safetensors')
    .action(async (flags) => (await import('./export.js')).exportCommand(flags));
  addSamplerOptions(exporting);

  computing('tune')
    .description(
      'measure the candidates of all kernels of a network on this adapter, and keep the fastest for every run',
    )
    .option('--model <file>', 'the network whose shapes count (default: the shipped teacher of Fashion-MNIST)')
    .option('--arch <yaml or module>', 'what the file is, where it does not say so')
    .option('--batch <n>', 'of training and sampling', '64')
    .addOption(new Option('--precision <kind>', 'of training').choices(['f32', 'f16']).default('f32'))
    .option('--seconds <n>', 'after so long no further choice is begun', '60')
    .action(async (flags) => (await import('./tune.js')).tuneCommand(flags));

  computing('doctor')
    .description('say what this machine has and lacks, by which command that is had, and prove that it computes')
    .option('--undo', 'take back what the set-up of a clone changed of the apt sources')
    .action(async (flags) => (await import('./doctor.js')).doctor(flags));

  const all = [...program.commands, ...plan.commands];
  all.filter(readsWeights).forEach(addWeights);
  all.filter(takesAdapters).forEach(addAdapters);
  all.filter(readsData).forEach(addReading);
  withDevice.forEach(addDevice);
  return program;
}

/**
 * Does what a command line asks.
 * @param args without Node and the script
 * @throws CommanderError and SemiflowError, of which nothing was printed
 */
export async function runCommand(args: readonly string[]): Promise<void> {
  const program = createProgram();
  if (!args.length) return program.outputHelp();
  const [first, second] = args;
  const word = first === 'help' ? second : first;
  const known = ['help', ...program.commands.map((command) => command.name())];
  const unknown = word !== undefined && !word.startsWith('-') && !known.includes(word);
  // Asked for the help of what there is not, commander would show all there is.
  try {
    await program.parseAsync(unknown ? [word] : args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.code === 'commander.unknownOption')
      error.message = withNearest(
        error.message,
        first,
        program.commands.find((own) => own.name() === first)!,
      );
    throw error;
  }
}

const listed = Object.entries(samplers) as [string, SamplerEntry][];

/** The options that belong to a sampler each. */
function addSamplerOptions(command: Command, only?: readonly string[]): void {
  const owners = listed.flatMap(([owner, { option }]) => (option ? [{ owner, ...option }] : []));
  for (const name of new Set(owners.map((option) => option.name))) {
    if (only && !only.includes(name)) continue;
    const same = owners.filter((option) => option.name === name);
    const help = same.map(({ owner, help, initial }) => `of ${owner}: ${help} (default ${initial})`).join('; ');
    command.option(`--${name} <number>`, help);
  }
}

/** Whether a command reads a file that someone else may have described. */
const readsWeights = (command: Command): boolean =>
  command.options.some(({ long }) => long === '--arch') && !['teacher', 'classifier', 'vae'].includes(command.name());

/** Whether a command folds adapters into what it reads: `import` keeps tensors as they are, `merge` has nothing else to do. */
const takesAdapters = (command: Command): boolean =>
  readsWeights(command) && !['import', 'merge'].includes(command.name());

const addAdapters = (command: Command): Command => command.option('--lora <file[:scale]>', adapterHelp, several);

/** Which weights of a PyTorch file: the choice becomes a part of the file's name, so that a run remembers it. */
const addWeights = (command: Command): Command =>
  command
    .option(
      '--weights <path>',
      'which of several sets of weights in a PyTorch file, such as ema.model, or in a folder, such as fp16',
    )
    .hook('preAction', () => {
      const { weights, teacher, model, pipeline } = command.opts<Record<string, string | undefined>>();
      // Of a pipeline they are a variant of all that it holds.
      if (weights === undefined || pipeline !== undefined) return;
      if (teacher ?? model) command.setOptionValue(teacher ? 'teacher' : 'model', `${teacher ?? model}#${weights}`);
      else if (command.processedArgs.length) {
        const [files, ...rest] = command.processedArgs as [string | string[], ...unknown[]];
        const named = (file: string) => `${file}#${weights}`;
        command.processedArgs = [typeof files === 'string' ? named(files) : files.map(named), ...rest];
      } else throw new UserError('names weights of a file, and no file is given', 'weights');
    });

/** Makes names of what is shipped paths of it, wherever the command is run. */
function findShipped(command: Command): void {
  const found = (value: unknown): unknown =>
    Array.isArray(value) ? value.map(found) : typeof value === 'string' ? orShipped(value) : value;
  for (const [name, value] of Object.entries(command.opts<Record<string, unknown>>()))
    if (!written.includes(name) && command.getOptionValueSource(name) === 'cli')
      command.setOptionValueWithSource(name, found(value), 'cli');
  command.processedArgs = command.processedArgs.map(found);
}
/** Options that name what is written. */
const written = ['out', 'run'];

/** Whether a command reads a data set. */
const readsData = (command: Command): boolean => command.options.some(({ long }) => long === '--data');

/** How data are read: it becomes a part of their path, so that a run remembers it. */
const addReading = (command: Command): Command =>
  command
    .option('--size <n or HxW>', 'resize and crop the pictures of --data to this size')
    .option(
      '--range <low,high or none>',
      'what black and white stand at in the files of --data, where their type does not tell; none for latents',
    )
    .hook('preAction', () => {
      const { data, size, range, pipeline } = command.opts<Record<string, string | undefined>>();
      if (pipeline !== undefined) return;
      const said = Object.entries({ size, range }).filter(([, text]) => text !== undefined);
      if (!said.length) return;
      if (data === undefined) throw new UserError('says how data are read: give --data too', said[0][0]);
      const reading = said.map(([name, text]) => `${name}=${encodeURIComponent(text!)}`).join('&');
      command.setOptionValue('data', `${data}#${reading}`);
    });

/** What every command that computes takes. */
const addDevice = (command: Command): Command =>
  command
    .optionsGroup('Device:')
    .option('--adapter <name>', 'part of the name of the adapter to use (also SEMIFLOW_ADAPTER)')
    .addOption(
      new Option('--family <name>', 'kernel family (also SEMIFLOW_FAMILY)').choices(['plain', 'tiled', 'tensor']),
    )
    .addOption(new Option('--toggles <set>', 'validation (also SEMIFLOW_TOGGLES)').choices(['fast', 'checked']));

/** The flag of an option that the library names by its place in a recipe, or by its own name. */
export function flagOf(field: string): string {
  const groups = [...distillationKnobs(), ...teacherKnobs, ...classificationKnobs, ...autoencodingKnobs];
  const knob = groups.flatMap(({ knobs }) => knobs).find(({ path }) => path === field);
  // What runs over which range, the library says of pixels.
  if (field === 'pixels') return '--range';
  return `--${knob?.flag ?? field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** The methods with an example each. */
function methodsHelp(): string {
  const rows = methodNames.map((name) => {
    const given = learnsFromData(name, distillationDefaults([2], 'velocity'))
      ? '--data checkerboard'
      : '--teacher checkpoints/rf-checkerboard.safetensors';
    return `  ${name.padEnd(14)}${methods[name].summary}\n${' '.repeat(16)}semiflow train --method ${name} ${given}`;
  });
  return `\nMethods (defaults above are of fmap; --method NAME --print-config shows each in full; those with --data also take a --teacher):\n${rows.join('\n')}`;
}
