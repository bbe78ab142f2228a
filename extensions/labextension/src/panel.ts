// The side panel: project, what I hold, what is left. It asks only while it can be seen.

import { Widget } from '@lumino/widgets';

import { amountText, IUsage, portalPage, ServiceError, usage } from './service';

const LOOK_MS = 10_000;

const PAGES: { [kind: string]: string } = { cluster: 'clusters', run: 'runs', notebook: 'workloads' };

export class MooragePanel extends Widget {
  constructor(
    private readonly project: string | null,
    private readonly promote: () => void
  ) {
    super();
    this.id = 'moorage-panel';
    this.title.caption = 'Moorage: what I hold, and what is left';
    this.title.label = 'Moorage';
    this.addClass('jp-MooragePanel');
    this.content = document.createElement('div');
    this.node.append(this.head(), this.content);
  }

  protected onAfterShow(): void {
    void this.look();
    this.timer = window.setInterval(() => void this.look(), LOOK_MS);
  }

  protected onBeforeHide(): void {
    window.clearInterval(this.timer);
  }

  dispose(): void {
    window.clearInterval(this.timer);
    super.dispose();
  }

  private head(): HTMLElement {
    const head = document.createElement('div');
    head.append(text('h2', this.project === null ? 'Moorage' : `Project ${this.project}`));
    const button = text('button', 'Promote this notebook');
    button.className = 'jp-mod-styled jp-mod-accept';
    button.addEventListener('click', this.promote);
    head.append(this.link('', 'Open the portal'), button);
    return head;
  }

  private async look(): Promise<void> {
    let parts: HTMLElement[];
    try {
      parts = this.parts(await usage());
    } catch (error) {
      if (!(error instanceof ServiceError)) {
        throw error;
      }
      parts = [text('p', error.message)];
    }
    this.content.replaceChildren(...parts);
  }

  private parts(found: IUsage): HTMLElement[] {
    const held = document.createElement('ul');
    for (const one of found.workloads) {
      const item = document.createElement('li');
      const page = PAGES[one.kind] ?? 'workloads';
      const path = page === 'workloads' ? '/workloads' : `/${page}/${encodeURIComponent(one.id)}`;
      item.append(this.link(path, one.name), text('span', ` ${one.kind}, ${one.phase}`));
      held.append(item);
    }
    const left = document.createElement('dl');
    for (const one of found.remaining) {
      const value = text('dd', `${amountText(one.resource, one.left)} of ${amountText(one.resource, one.amount)}`);
      value.title = one.rule;
      left.append(text('dt', one.resource), value);
    }
    return [text('h3', 'You hold'), held, text('h3', 'Left for you'), left];
  }

  private link(path: string, words: string): HTMLAnchorElement {
    const found = document.createElement('a');
    found.href = portalPage(path || '/');
    found.target = '_blank';
    found.rel = 'noopener';
    found.textContent = words;
    return found;
  }

  private readonly content: HTMLElement;
  private timer = 0;
}

function text(tag: string, words: string): HTMLElement {
  const found = document.createElement(tag);
  found.textContent = words;
  return found;
}
