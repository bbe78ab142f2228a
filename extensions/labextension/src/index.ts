// Registers only: the side panel, and two commands.

import { ILabShell, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { INotebookTracker } from '@jupyterlab/notebook';

import { MooragePanel } from './panel';
import { portalPage, projectOf } from './service';

const PORTAL = 'moorage:open-portal';
const PROMOTE = 'moorage:promote-notebook';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'moorage-labextension:plugin',
  description: 'What I hold, what is left, and the way to the portal.',
  autoStart: true,
  optional: [ICommandPalette, INotebookTracker, ILabShell],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    notebooks: INotebookTracker | null,
    shell: ILabShell | null
  ) => {
    const baseUrl = PageConfig.getBaseUrl().replace(window.location.origin, '');
    const project = projectOf(baseUrl);
    const open = (path: string) => window.open(portalPage(path), '_blank', 'noopener');

    app.commands.addCommand(PORTAL, {
      label: 'Open the portal',
      caption: 'My workloads, jobs and projects, in a new tab',
      execute: () => open('/')
    });
    app.commands.addCommand(PROMOTE, {
      label: 'Promote this notebook',
      caption: 'Save it, and make a job of it in the portal',
      isEnabled: () => notebooks !== null && notebooks.currentWidget !== null,
      execute: async () => {
        await notebooks?.currentWidget?.context.save();
        open(`/jobs/promote${project === null ? '' : `?project=${encodeURIComponent(project)}`}`);
      }
    });
    for (const command of [PORTAL, PROMOTE]) {
      palette?.addItem({ command, category: 'Moorage' });
    }
    const panel = new MooragePanel(project, () => void app.commands.execute(PROMOTE));
    shell?.add(panel, 'left', { rank: 600 });
  }
};

export default plugin;
