// How an Azure storage account is reached, beside the container and the prefix in the address.

/** One of connection string, account and key, account and SAS; with the account alone `@azure/identity` is asked. */
export interface AzureOptions {
  connectionString?: string | undefined;
  account?: string | undefined;
  /** Of the account. */
  key?: string | undefined;
  /** A shared access signature, with or without the leading `?`. */
  sas?: string | undefined;
  /** The blob service's URL, where it is not https://<account>.blob.core.windows.net. */
  endpoint?: string | undefined;
  /** For new objects; without it the account's default. Archive is not among them: it cannot be read back at once. */
  accessTier?: 'Hot' | 'Cool' | 'Cold' | undefined;
}
