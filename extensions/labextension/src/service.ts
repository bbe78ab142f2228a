// The service as this page sees it: on the hub's origin, known by the portal's session cookie.

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

/** Why there is nothing to show. `signIn`: opening the portal once makes it known who this is. */
export class ServiceError extends Error {
  constructor(
    message: string,
    readonly signIn: boolean
  ) {
    super(message);
  }
}

/** The path of the service below the origin; a notebook server lies at `<hub>/user/<name>/<project>/`. */
export function servicePath(baseUrl: string): string {
  const place = baseUrl.indexOf('/user/');
  return `${place < 0 ? '' : baseUrl.slice(0, place)}/services/moorage`;
}

/** The project of this notebook server, which is the server's name; null elsewhere. */
export function projectOf(baseUrl: string): string | null {
  const found = /\/user\/[^/]+\/([^/]+)\/?$/.exec(baseUrl);
  return found ? decodeURIComponent(found[1]) : null;
}

export async function usage(baseUrl: string, project: string | null): Promise<IUsage> {
  const query = project === null ? '' : `?project=${encodeURIComponent(project)}`;
  let response: Response;
  try {
    response = await fetch(`${servicePath(baseUrl)}/api/v1/me/usage${query}`, { credentials: 'same-origin' });
  } catch {
    throw new ServiceError('The Moorage service does not answer. Notebooks and clusters go on meanwhile.', false);
  }
  if (response.status === 401) {
    throw new ServiceError('Open the portal once to see here what you hold.', true);
  }
  if (!response.ok) {
    throw new ServiceError(`The Moorage service answered with HTTP ${response.status}.`, false);
  }
  const body = (await response.json()) as Partial<IUsage>;
  return { workloads: body.workloads ?? [], remaining: body.remaining ?? [] };
}

/** An amount in words: bytes as GiB, the rest as a plain number. */
export function amountText(resource: string, amount: number): string {
  const number = resource === 'memory' ? amount / 2 ** 30 : amount;
  const short = String(Math.round(Math.max(0, number) * 100) / 100);
  return resource === 'memory' ? `${short} GiB` : short;
}
