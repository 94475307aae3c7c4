import { heatMap } from '../report/heat-map.js';
import { figureOr } from '../report/html.js';
import { formatNumber, markdownTable, textTable, type Table } from '../report/table.js';
import { csv, json, progressLine, type Experiment } from './experiment.js';
import { driftParadigms } from './paradigms.js';
import { violationBudget } from './budget.js';
import { violationMap, type ViolationMap } from './violation.js';

/** Where in the plane of times the semigroup law is broken, and by how much. */
export const violationExperiment: Experiment = {
  async run({ networks, whole, parts, onProgress }) {
    const maps: { method: string; map: ViolationMap }[] = [];
    const operators = driftParadigms(networks, whole).filter(({ name }) => !name.startsWith('coupled'));
    for (const operator of operators) {
      const compute = () => {
        onProgress(progressLine('violation', operator.name));
        return violationMap(
          whole,
          (x, t, s) => operator.go(x, t, s, 0),
          () => {},
        );
      };
      maps.push({ method: operator.name, map: await parts.part(`violation ${operator.name}`, compute) });
    }
    const table: Table = {
      columns: ['method', 'mean violation', 'worst', 'at t', 'and s'],
      rows: maps.map(({ method, map: { mean, worst } }) => [method, mean, worst.violation, worst.t, worst.s]),
    };
    const svgs = [];
    for (const { method, map } of maps) {
      const cells = map.cells.map(({ t, s, violation }) => ({ x: t, y: s, value: violation }));
      svgs.push(
        await figureOr(async () => ({
          svg: await heatMap({ title: method, xLabel: 't', yLabel: 's', cells, budget: violationBudget }),
        })),
      );
    }
    await parts.write('violation.json', json(maps));
    await parts.write('violation.csv', csv(table));
    await parts.write('violation.md', `${markdownTable(table)}\n`);
    const heading = 'V. Semigroup violation over (t, s)';
    const text =
      "One jump t → s against two by the middle, mean square over the data's variance: what `semiflow check` tests.\n\n" +
      `Seen: ${maps.map(({ method, map }) => `${method} ${formatNumber(map.mean)} in the mean`).join(', ')}.`;
    return { sections: [{ heading, text, table, svgs }], print: `\n${heading}\n${textTable(table)}` };
  },
};
