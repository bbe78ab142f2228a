// The service as this page sees it: asked through the notebook's own server; the portal may be on another origin.

import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export interface IWorkload {
  id: string;
  kind: string;
  name: string;
  phase: string;
  project: string;
}

export interface IRemaining {
  resource: string;
  left: number;
  amount: number;
  rule: string;
}

export interface IUsage {
  workloads: IWorkload[];
  remaining: IRemaining[];
}

/** Why there is nothing to show. */
export class ServiceError extends Error {}

/** The address of the portal's page, such as "/jobs". The portal is where the hub is. */
export function portalPage(path: string): string {
  return `${PageConfig.getOption('hubHost')}/services/moorage${path}`;
}

/** The project of this notebook server, which is the server's name; null elsewhere. */
export function projectOf(baseUrl: string): string | null {
  const found = /\/user\/[^/]+\/([^/]+)\/?$/.exec(baseUrl);
  return found ? decodeURIComponent(found[1]) : null;
}

export async function usage(): Promise<IUsage> {
  const settings = ServerConnection.makeSettings();
  let response: Response;
  try {
    response = await ServerConnection.makeRequest(URLExt.join(settings.baseUrl, 'moorage', 'usage'), {}, settings);
  } catch {
    throw new ServiceError('The notebook server does not answer.');
  }
  const body = (await response.json().catch(() => ({}))) as Partial<IUsage> & { message?: string };
  if (!response.ok) {
    const said = body.message ?? `The notebook server answered with HTTP ${response.status}.`;
    throw new ServiceError(`${said} Notebooks and clusters go on meanwhile.`);
  }
  return { workloads: body.workloads ?? [], remaining: body.remaining ?? [] };
}

/** An amount in words: bytes as GiB, the rest as a plain number. */
export function amountText(resource: string, amount: number): string {
  const number = resource === 'memory' ? amount / 2 ** 30 : amount;
  const short = String(Math.round(Math.max(0, number) * 100) / 100);
  return resource === 'memory' ? `${short} GiB` : short;
}
