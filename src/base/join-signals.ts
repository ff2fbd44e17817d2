// A run is ended by its caller, or by what it finds itself.

/** Aborted as soon as one of the two is, with its reason. @param given `undefined` where the caller has none. */
export function joinSignals(given: AbortSignal | undefined, own: AbortSignal): AbortSignal {
  return given === undefined ? own : AbortSignal.any([given, own]);
}
