// From the resolved options to what a storage takes.
import type { StorageOptions } from '../storage/storage-options.ts';
import type { OptionsOf, StorageSetting } from './options/table.ts';

type Used = Pick<OptionsOf<'list'>, StorageSetting | 'limitUpload' | 'limitDownload' | 'limitRequests'> &
  Partial<Pick<OptionsOf<'create'>, 'lockMode'> & Pick<OptionsOf<'restore'>, 'asOf'>>;

/** How the storage of a command's repository is reached. */
export function storageOptions(options: Used): StorageOptions {
  const { limitUpload, limitDownload, limitRequests } = options;
  const isLimited = [limitUpload, limitDownload, limitRequests].some(limit => limit !== undefined);
  return {
    ...(isLimited && {
      limits: {
        uploadBytesPerSecond: limitUpload,
        downloadBytesPerSecond: limitDownload,
        requests: limitRequests,
      },
    }),
    ...(options.asOf && { asOf: options.asOf }),
    s3: {
      lockMode: options.lockMode as NonNullable<StorageOptions['s3']>['lockMode'],
      endpoint: options.s3Endpoint,
      region: options.s3Region,
      profile: options.s3Profile,
      pathStyle: options.s3PathStyle,
      accessKeyId: options.s3AccessKeyId,
      secretAccessKey: options.s3SecretAccessKey?.reveal(),
      sessionToken: options.s3SessionToken?.reveal(),
      storageClass: options.s3StorageClass,
      encryption: options.s3Encryption as NonNullable<StorageOptions['s3']>['encryption'],
      kmsKeyId: options.s3KmsKeyId,
      tags: options.s3Tags,
      checksums: options.s3Checksums === 'when_supported' ? 'when-supported' : 'when-required',
    },
    gcs: {
      accessId: options.gcsAccessId,
      secret: options.gcsSecret?.reveal(),
      storageClass: options.gcsStorageClass,
      endpoint: options.gcsEndpoint,
    },
    azure: {
      account: options.azureAccount,
      key: options.azureKey?.reveal(),
      sas: options.azureSas?.reveal(),
      connectionString: options.azureConnectionString?.reveal(),
      endpoint: options.azureEndpoint,
      accessTier: options.azureAccessTier as NonNullable<StorageOptions['azure']>['accessTier'],
    },
    sftp: {
      password: options.sftpPassword?.reveal(),
      keyFile: options.sftpKeyFile,
      passphrase: options.sftpKeyPassphrase?.reveal(),
      agentSocket: options.sftpAgent,
      knownHostsFile: options.sftpKnownHosts,
    },
  };
}
