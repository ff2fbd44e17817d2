// What a storage says of itself beyond the contract, and what that means for a repository.
import type { StorageFacts } from '../../storage/storage.ts';
import type { Checklist } from '../checklist.ts';

const cannotTell = 'this kind of storage cannot tell, or has no such thing';
const nothingStored = 'nothing could be stored';

export const factNames = ['transport', 'checksums', 'versions', 'object-lock'];

/** @param mayPut whether an object could be stored with the settings as they are. */
export function reportFacts(list: Checklist, facts: StorageFacts, mayPut: boolean): void {
  reportTransport(list, facts.transport);
  reportChecksums(list, facts.checksums, mayPut);
  if (facts.keepsVersions === undefined) list.skip(['versions'], mayPut ? cannotTell : nothingStored);
  else if (facts.keepsVersions)
    list.warn(
      'versions',
      'the store keeps older versions: what cleanup deletes, and what this probe stored, stays there and costs until it expires',
      'have the store expire older versions after some weeks (a lifecycle rule), if it does not yet; until then they protect the backups',
    );
  else list.ok('versions', 'what is removed is gone for good: the store keeps no older versions');
  reportObjectLock(list, facts.objectLock);
}

function reportObjectLock(list: Checklist, objectLock: StorageFacts['objectLock']): void {
  const name = 'object-lock';
  if (objectLock === undefined) list.skip([name], cannotTell);
  else if (objectLock.isOn === 'not to be seen')
    list.skip([name], 'it is not to be seen with these credentials whether objects can be locked');
  else if (objectLock.isOn) {
    const { byDefault } = objectLock;
    const inAnyCase = byDefault === undefined ? '' : `; without it every object is locked in ${byDefault}`;
    list.ok(name, `objects can be locked (--lock-days)${inAnyCase}`);
  } else list.ok(name, 'objects cannot be locked: create refuses --lock-days here');
}

function reportTransport(list: Checklist, transport: StorageFacts['transport']): void {
  if (transport === undefined) list.skip(['transport'], cannotTell);
  else if (transport.isEncrypted) list.ok('transport', `requests to ${transport.host} are encrypted`);
  else if (isThisMachine(transport.host))
    list.ok('transport', 'requests are not encrypted, and do not leave this machine');
  else
    list.warn(
      'transport',
      `requests to ${transport.host} are not encrypted: names of objects, public metadata and some credentials can be read on the way`,
      'use an https:// endpoint',
    );
}

export function isThisMachine(host: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)$/i.test(host);
}

function reportChecksums(list: Checklist, checksums: StorageFacts['checksums'], mayPut: boolean): void {
  const name = 'checksums';
  if (checksums === undefined) {
    list.skip([name], cannotTell);
    return;
  }
  const { areSent, takesOtherWay, otherWay } = checksums;
  const other = areSent ? 'without checksums of their own' : 'with checksums of their own';
  if (mayPut) {
    const taken = takesOtherWay ? 'also takes' : 'refuses';
    list.ok(name, `the store takes requests as they are sent, and ${taken} those ${other}`);
  } else if (takesOtherWay) list.fail(name, `the store only takes requests ${other}`, `set ${otherWay}`);
  else list.skip([name], nothingStored);
}
