import { describe, expect, test } from 'vitest';
import { notMeantSo } from '../../../src/postgres/unfinished.ts';

const script = `
CREATE TABLE public.t (
    id integer,
    CONSTRAINT inline_open CHECK ((id > 0)) NOT ENFORCED
);
ALTER TABLE public.t
    ADD CONSTRAINT plain CHECK ((id > 0)) NOT VALID;
ALTER TABLE public.t
    ADD CONSTRAINT "Odd ""name""" CHECK ((note <> 'a;
b'::text)) NOT VALID;
ALTER DOMAIN public.d
    ADD CONSTRAINT of_domain CHECK ((VALUE < 10)) NOT VALID;
ALTER TABLE ONLY public.t
    ADD CONSTRAINT checked FOREIGN KEY (id) REFERENCES public.u(id);
ALTER TABLE ONLY public.t
    ADD CONSTRAINT checked_too CHECK ((note = 'NOT_VALID'::text));
`;

describe('a constraint that is not validated', () => {
  test.each([
    ['plain', true],
    ['inline_open', true],
    ['of_domain', true],
    ['checked', false],
    ['checked_too', false],
    ['unknown', false],
  ])('%s: was meant so is %s', (name, isMeant) => {
    const constraint = { name, schema: 'public', of: 't' };
    expect(notMeantSo([constraint], script)).toEqual(isMeant ? [] : [constraint]);
  });
});
