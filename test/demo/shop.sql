-- A shop for the demo: some 360,000 rows in two dozen tables, the same on every run. Plain SQL for the owner of an
-- empty database (no superuser, no extensions), PostgreSQL 14 and newer.

SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE SCHEMA shop;
CREATE SCHEMA "Back Office";
COMMENT ON SCHEMA shop IS 'What the web shop reads and writes';
COMMENT ON SCHEMA "Back Office" IS 'What only the staff sees; its names are as the staff wrote them';

CREATE TYPE shop.order_status AS ENUM ('cart', 'placed', 'paid', 'packed', 'shipped', 'delivered', 'returned', 'cancelled');
CREATE TYPE shop.payment_method AS ENUM ('card', 'bank transfer', 'invoice', 'voucher');
CREATE TYPE shop.dimensions AS (length_mm integer, width_mm integer, height_mm integer);
CREATE DOMAIN shop.email AS text CHECK (VALUE ~ '^[^@\s]+@[^@\s]+\.[a-z]+$');
CREATE DOMAIN shop.amount AS numeric(12, 2) CHECK (VALUE >= 0);
COMMENT ON TYPE shop.order_status IS 'The way of an order, from left to right';
COMMENT ON DOMAIN shop.amount IS 'Money in the currency of the row, never negative';

CREATE FUNCTION shop.slug(title text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  AS $$ SELECT pg_catalog.lower(pg_catalog.regexp_replace(title, '[^A-Za-z0-9]+', '-', 'g')) $$;
-- The same numbers every time, and no visible pattern.
CREATE FUNCTION shop.scatter(n bigint, below bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  AS $$ SELECT ((n * 2654435761 + 40503) % 4294967296 / 64) % below $$;

-- Catalogue ------------------------------------------------------------------------------------------------------

CREATE TABLE shop.countries (
  code char(2) PRIMARY KEY, name text NOT NULL UNIQUE, currency char(3) NOT NULL, vat_percent numeric(4, 2) NOT NULL
);
INSERT INTO shop.countries VALUES
  ('DE', 'Deutschland', 'EUR', 19), ('AT', 'Österreich', 'EUR', 20), ('FR', 'France', 'EUR', 20), ('ES', 'España', 'EUR', 21),
  ('PL', 'Polska', 'PLN', 23), ('CZ', 'Česko', 'CZK', 21), ('GR', 'Ελλάδα', 'EUR', 24), ('GB', 'United Kingdom', 'GBP', 20),
  ('US', 'United States', 'USD', 0), ('JP', '日本', 'JPY', 10), ('CH', 'Schweiz / Suisse', 'CHF', 8.1), ('DK', 'Danmark', 'DKK', 25);

CREATE TABLE shop.categories (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent_id integer REFERENCES shop.categories ON DELETE RESTRICT,
  name text NOT NULL, slug text GENERATED ALWAYS AS (shop.slug(name)) STORED, sort_order smallint NOT NULL DEFAULT 0, UNIQUE (parent_id, name)
);
INSERT INTO shop.categories (name, sort_order)
  SELECT name, n FROM unnest(ARRAY['Tea & Coffee', 'Kitchen', 'Garden', 'Outdoor', 'Books', 'Toys', 'Office', 'Music']) WITH ORDINALITY AS top (name, n);
INSERT INTO shop.categories (parent_id, name, sort_order)
  SELECT p, (ARRAY['New', 'Classic', 'For Two', 'Small', 'Large', 'On Sale'])[n] || ' in ' || (SELECT name FROM shop.categories WHERE id = p), n
  FROM generate_series(1, 8) AS p, generate_series(1, 6) AS n;
INSERT INTO shop.categories (parent_id, name)
  SELECT 8 + p, 'Shelf ' || chr(64 + n) || ' of ' || (8 + p) FROM generate_series(1, 48) AS p, generate_series(1, 3) AS n;

CREATE TABLE "Back Office"."Größe" (
  "Kürzel" text PRIMARY KEY, "Bezeichnung" text NOT NULL, "Maß" shop.dimensions, "Reihenfolge" integer NOT NULL
);
INSERT INTO "Back Office"."Größe" VALUES
  ('S', 'klein', ROW (200, 150, 50), 1), ('M', 'mittel', ROW (300, 220, 80), 2), ('L', 'groß', ROW (450, 300, 120), 3), ('XL', 'übergroß', ROW (700, 500, 300), 4);
COMMENT ON TABLE "Back Office"."Größe" IS 'Sizes, in the words of the warehouse';
COMMENT ON COLUMN "Back Office"."Größe"."Maß" IS 'of the box, in millimetres';

CREATE TABLE shop.products (
  id integer GENERATED ALWAYS AS IDENTITY (START WITH 1001) PRIMARY KEY, category_id integer NOT NULL REFERENCES shop.categories,
  title text NOT NULL, slug text GENERATED ALWAYS AS (shop.slug(title)) STORED, description text NOT NULL, tags text[] NOT NULL DEFAULT '{}',
  attributes jsonb NOT NULL DEFAULT '{}', search tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, title || ' ' || description)) STORED,
  created_at timestamptz NOT NULL DEFAULT now(), discontinued_on date
);
INSERT INTO shop.products (category_id, title, description, tags, attributes, created_at, discontinued_on)
  SELECT 57 + shop.scatter(i, 144),
         (ARRAY['Copper', 'Wooden', 'Enamel', 'Folding', 'Quiet', 'Grand', 'Little', 'Nordic', 'Bright', 'Honest'])[1 + shop.scatter(i, 10)] || ' '
           || (ARRAY['Kettle', 'Lantern', 'Notebook', 'Teapot', 'Hammock', 'Puzzle', 'Desk Lamp', 'Trowel', 'Recorder', 'Backpack', 'Mug', 'Atlas'])[1 + shop.scatter(i + 7, 12)] || ' No. ' || i,
         'Made in ' || (ARRAY['Solingen', 'Limoges', 'Kraków', 'Thessaloníki', '京都', 'Sheffield'])[1 + shop.scatter(i + 3, 6)] || E'.\nLasts ' || 2 + i % 30 || ' years; the colour '
           || (ARRAY['fades', 'stays', 'deepens', 'is yours to choose'])[1 + shop.scatter(i + 5, 4)] || '. Batch ' || md5(i::text) || '.',
         ARRAY[(ARRAY['gift', 'sale', 'new', 'repairable'])[1 + i % 4], 'batch-' || i / 100],
         jsonb_build_object('weightGrams', 100 + shop.scatter(i, 5000), 'colours', jsonb_build_array('red', 'grün', '藍'), 'care', jsonb_build_object('dishwasher', i % 3 = 0, 'note', NULL)),
         timestamptz '2023-01-01 08:00:00+00' + i * interval '7 hours', CASE WHEN i % 40 = 0 THEN date '2025-01-31' END
  FROM generate_series(1, 1800) AS i;

CREATE TABLE shop.product_images (
  product_id integer REFERENCES shop.products ON DELETE CASCADE, position smallint, media_type text NOT NULL DEFAULT 'image/webp', content bytea NOT NULL,
  size_bytes integer GENERATED ALWAYS AS (length(content)) STORED, PRIMARY KEY (product_id, position)
);
INSERT INTO shop.product_images (product_id, position, content)
  SELECT 1000 + p, 1, decode(string_agg(md5(p * 1000 + n || 'image'), ''), 'hex') FROM generate_series(1, 900) AS p, generate_series(1, 256 + p % 128) AS n GROUP BY p;

CREATE TABLE shop.variants (
  id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, product_id integer NOT NULL REFERENCES shop.products ON DELETE CASCADE,
  size text NOT NULL REFERENCES "Back Office"."Größe", sku text NOT NULL UNIQUE, ean char(13), weight_grams integer NOT NULL CHECK (weight_grams > 0), UNIQUE (product_id, size)
);
INSERT INTO shop.variants (product_id, size, sku, ean, weight_grams)
  SELECT 1000 + p, s, 'SKU-' || 1000 + p || '/' || s, lpad((4000000000000 + p * 10 + n)::text, 13, '0'), 100 + shop.scatter(p * n, 5000)
  FROM generate_series(1, 1800) AS p, unnest(ARRAY['S', 'M', 'L', 'XL']) WITH ORDINALITY AS size (s, n);

CREATE TABLE shop.prices (
  variant_id bigint NOT NULL REFERENCES shop.variants ON DELETE CASCADE, valid daterange NOT NULL, net shop.amount NOT NULL, currency char(3) NOT NULL DEFAULT 'EUR',
  gross numeric(12, 2) GENERATED ALWAYS AS (round(net * 1.19, 2)) STORED, PRIMARY KEY (variant_id, valid),
  CONSTRAINT one_price_at_a_time EXCLUDE USING gist (int8range(variant_id, variant_id, '[]') WITH &&, valid WITH &&)
);
INSERT INTO shop.prices (variant_id, valid, net)
  SELECT v, CASE n WHEN 1 THEN daterange(NULL, '2024-07-01') ELSE daterange('2024-07-01', NULL) END, 3 + shop.scatter(v, 9000) / 100.0 * n
  FROM generate_series(1, 7200) AS v, generate_series(1, 2) AS n;
COMMENT ON CONSTRAINT one_price_at_a_time ON shop.prices IS 'No day has two prices for a variant';

CREATE TABLE shop.warehouses (id smallint PRIMARY KEY, name text NOT NULL, country char(2) NOT NULL REFERENCES shop.countries, position point, opens time NOT NULL, network cidr);
INSERT INTO shop.warehouses VALUES
  (1, 'Leipzig', 'DE', '(12.37,51.34)', '05:30', '10.1.0.0/16'), (2, 'Lyon', 'FR', '(4.83,45.76)', '06:00', '10.2.0.0/16'), (3, 'Łódź', 'PL', '(19.46,51.76)', '05:00', 'fd00:3::/64');

CREATE TABLE shop.inventory (
  warehouse_id smallint, variant_id bigint, on_hand integer NOT NULL, reserved integer NOT NULL DEFAULT 0,
  available integer GENERATED ALWAYS AS (on_hand - reserved) STORED, counted_at timestamptz, PRIMARY KEY (warehouse_id, variant_id), CHECK (reserved <= on_hand)
) WITH (fillfactor = 80);
INSERT INTO shop.inventory (warehouse_id, variant_id, on_hand, reserved, counted_at)
  SELECT w, v, 10 + shop.scatter(v * w, 400), shop.scatter(v + w, 10), CASE WHEN v % 5 > 0 THEN timestamptz '2025-02-01 04:00:00+00' + v * interval '3 minutes' END
  FROM generate_series(1, 3) AS w, generate_series(1, 7200) AS v;

-- Customers ------------------------------------------------------------------------------------------------------

CREATE TABLE shop.customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, public_id uuid NOT NULL UNIQUE, email shop.email NOT NULL, first_name text NOT NULL, last_name text NOT NULL,
  full_name text GENERATED ALWAYS AS (first_name || ' ' || last_name) STORED, born_on date, newsletter boolean NOT NULL DEFAULT false, preferences jsonb,
  default_address_id bigint, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, last_seen_from inet
);
INSERT INTO shop.customers (public_id, email, first_name, last_name, born_on, newsletter, preferences, created_at, updated_at, last_seen_from)
  SELECT md5('customer' || i)::uuid, 'customer.' || i || '@example.' || (ARRAY['com', 'org', 'net'])[1 + i % 3],
         (ARRAY['Ada', 'Björn', 'Chloé', 'Dáša', 'Eleni', 'Fatma', 'Grażyna', 'Håkon', 'Íñigo', 'Jürgen', '花子', 'Olga', 'Søren', 'Zoë'])[1 + shop.scatter(i, 14)],
         (ARRAY['Müller', 'O''Brien', 'Nowak', 'García', 'Παπαδόπουλος', 'de la Cruz', '佐藤', 'Ångström', 'Dvořák', 'Smith', 'N''Diaye', 'Weiß'])[1 + shop.scatter(i + 11, 12)],
         CASE WHEN i % 6 > 0 THEN date '1950-01-01' + shop.scatter(i, 20000)::integer END, i % 3 = 0,
         CASE WHEN i % 4 > 0 THEN jsonb_build_object('language', (ARRAY['de', 'fr', 'en', 'pl'])[1 + i % 4], 'theme', 'dark', 'seen', i % 100) END,
         timestamptz '2023-01-01 00:00:00+00' + i * interval '55 minutes', timestamptz '2024-06-01 00:00:00+00' + i * interval '17 minutes',
         CASE WHEN i % 2 = 0 THEN ('203.0.113.' || i % 254 + 1)::inet ELSE ('2001:db8::' || to_hex(i))::inet END
  FROM generate_series(1, 12000) AS i;

CREATE TABLE shop.addresses (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id bigint NOT NULL REFERENCES shop.customers ON DELETE CASCADE,
  street text NOT NULL, postcode text NOT NULL, city text NOT NULL, country char(2) NOT NULL REFERENCES shop.countries, note text
);
INSERT INTO shop.addresses (customer_id, street, postcode, city, country, note)
  SELECT CASE WHEN i <= 12000 THEN i ELSE 1 + shop.scatter(i, 12000) END,
         (ARRAY['Lindenstraße', 'Rue de l''Église', 'High Street', 'ul. Długa', 'Calle Mayor', 'Náměstí Míru', 'Οδός Ερμού'])[1 + shop.scatter(i, 7)] || ' ' || 1 + i % 190,
         lpad(shop.scatter(i, 99999)::text, 5, '0'), (ARRAY['Berlin', 'Wien', 'Lyon', 'Sevilla', 'Kraków', 'Brno', 'Αθήνα', 'Leeds', '札幌'])[1 + shop.scatter(i + 2, 9)],
         (ARRAY['DE', 'AT', 'FR', 'ES', 'PL', 'CZ', 'GR', 'GB', 'JP'])[1 + shop.scatter(i + 2, 9)],
         CASE i % 9 WHEN 0 THEN E'Ring twice.\nLeave with the neighbour: "Meyer"' WHEN 1 THEN E'C:\\courtyard\tleft door' WHEN 2 THEN '' END
  FROM generate_series(1, 17000) AS i;
UPDATE shop.customers SET default_address_id = id WHERE id % 5 > 0;
-- Customers name an address and addresses a customer: a circle that only deferred checks can fill.
ALTER TABLE shop.customers ADD CONSTRAINT customers_default_address FOREIGN KEY (default_address_id) REFERENCES shop.addresses DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE shop.coupons (
  code text PRIMARY KEY CHECK (code = upper(code)), percent smallint CHECK (percent BETWEEN 1 AND 90), valid tstzrange NOT NULL, uses_left integer, rules jsonb NOT NULL DEFAULT '[]'
);
INSERT INTO shop.coupons
  SELECT 'SPRING' || i, 5 + i % 50, tstzrange(timestamptz '2024-03-01 00:00:00+00' + i * interval '1 day', CASE WHEN i % 7 > 0 THEN timestamptz '2025-03-01 00:00:00+00' + i * interval '1 day' END),
         CASE WHEN i % 3 > 0 THEN i * 10 END, jsonb_build_array(jsonb_build_object('minimum', i * 5), 'once')
  FROM generate_series(1, 250) AS i;

CREATE TABLE shop.carts (
  id uuid PRIMARY KEY, customer_id bigint REFERENCES shop.customers ON DELETE SET NULL, coupon text REFERENCES shop.coupons, opened_at timestamptz NOT NULL, idle interval
);
INSERT INTO shop.carts
  SELECT md5('cart' || i)::uuid, CASE WHEN i % 3 > 0 THEN 1 + shop.scatter(i, 12000) END, CASE WHEN i % 8 = 0 THEN 'SPRING' || 1 + i % 250 END,
         timestamptz '2025-02-20 00:00:00+00' + i * interval '2 minutes', make_interval(mins => i % 500)
  FROM generate_series(1, 5000) AS i;
CREATE TABLE shop.cart_items (
  cart_id uuid REFERENCES shop.carts ON DELETE CASCADE, variant_id bigint REFERENCES shop.variants, quantity smallint NOT NULL CHECK (quantity > 0), PRIMARY KEY (cart_id, variant_id)
);
INSERT INTO shop.cart_items
  SELECT md5('cart' || i)::uuid, 1 + (shop.scatter(i, 7000) + n * 13) % 7200, 1 + (i + n) % 4 FROM generate_series(1, 5000) AS i, generate_series(1, 2) AS n;

-- Orders ---------------------------------------------------------------------------------------------------------

CREATE TABLE shop.orders (
  id bigint GENERATED BY DEFAULT AS IDENTITY (START WITH 500001) PRIMARY KEY, number text GENERATED ALWAYS AS ('R-' || lpad(id::text, 8, '0')) STORED UNIQUE,
  customer_id bigint NOT NULL, address_id bigint, coupon text,
  status shop.order_status NOT NULL DEFAULT 'placed', placed_at timestamptz NOT NULL, shipping shop.amount NOT NULL, currency char(3) NOT NULL, extras jsonb
);
INSERT INTO shop.orders (customer_id, address_id, coupon, status, placed_at, shipping, currency, extras)
  SELECT 1 + shop.scatter(i, 12000), 1 + shop.scatter(i, 12000), CASE WHEN i % 20 = 0 THEN 'SPRING' || 1 + i % 250 END,
         CASE WHEN i % 31 = 0 THEN 'cancelled' WHEN i % 23 = 0 THEN 'returned' WHEN i > 29500 THEN 'placed' WHEN i > 29000 THEN 'paid' WHEN i > 28500 THEN 'shipped' ELSE 'delivered' END::shop.order_status,
         timestamptz '2024-01-01 06:00:00+00' + i * interval '20 minutes' + shop.scatter(i, 1000) * interval '1 second', CASE WHEN i % 4 = 0 THEN 0 ELSE 4.9 END, (ARRAY['EUR', 'EUR', 'GBP', 'PLN'])[1 + i % 4],
         CASE WHEN i % 10 = 0 THEN jsonb_build_object('gift', true, 'message', 'Happy birthday, "' || i || '" \ enjoy!') END
  FROM generate_series(1, 30000) AS i;

CREATE TABLE shop.order_items (
  order_id bigint, line smallint, variant_id bigint NOT NULL, quantity smallint NOT NULL CHECK (quantity > 0),
  unit_price shop.amount NOT NULL, discount numeric(5, 4) NOT NULL DEFAULT 0, total numeric(14, 4) GENERATED ALWAYS AS (quantity * unit_price::numeric * (1 - discount)) STORED, PRIMARY KEY (order_id, line)
);
INSERT INTO shop.order_items (order_id, line, variant_id, quantity, unit_price, discount)
  SELECT 500000 + o, n, 1 + shop.scatter(o * 4 + n, 7200), 1 + (o + n) % 5, 3 + shop.scatter(o + n, 9000) / 100.0, CASE WHEN o % 20 = 0 THEN 0.1 ELSE 0 END
  FROM generate_series(1, 30000) AS o, generate_series(1, 4) AS n WHERE n <= 1 + o % 4;

CREATE TABLE shop.payments (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id bigint NOT NULL, method shop.payment_method NOT NULL, paid_at timestamptz NOT NULL,
  paid shop.amount NOT NULL, reference text NOT NULL, gateway_answer json
);
INSERT INTO shop.payments (order_id, method, paid_at, paid, reference, gateway_answer)
  SELECT o.id, (ARRAY['card', 'card', 'bank transfer', 'invoice', 'voucher']::shop.payment_method[])[1 + o.id % 5], o.placed_at + interval '5 minutes', o.shipping + i.total, md5('payment' || o.id),
         CASE WHEN o.id % 5 < 2 THEN json_build_object('code', '00', 'masked', '**** ' || 1000 + o.id % 9000, 'raw', E'OK\t\\n') END
  FROM shop.orders AS o JOIN (SELECT order_id, sum(total) AS total FROM shop.order_items GROUP BY 1) AS i ON i.order_id = o.id
  WHERE o.status NOT IN ('placed', 'cancelled') ORDER BY o.id;

CREATE TABLE shop.refunds (
  id bigint GENERATED ALWAYS AS IDENTITY (START WITH -1 INCREMENT BY -1 MINVALUE -9000000 MAXVALUE -1) PRIMARY KEY, payment_id bigint NOT NULL REFERENCES shop.payments,
  refunded shop.amount NOT NULL, reason text, refunded_at timestamptz NOT NULL
);
INSERT INTO shop.refunds (payment_id, refunded, reason, refunded_at)
  SELECT p.id, p.paid, CASE WHEN p.id % 3 > 0 THEN (ARRAY['too small', 'broken on arrival', 'changed my mind'])[1 + p.id % 3] END, p.paid_at + interval '9 days'
  FROM shop.payments AS p JOIN shop.orders AS o ON o.id = p.order_id WHERE o.status = 'returned' ORDER BY p.id;

CREATE TABLE shop.shipments (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id bigint NOT NULL, warehouse_id smallint NOT NULL,
  tracking text UNIQUE, box shop.dimensions, stops timestamptz[] NOT NULL DEFAULT '{}', took interval
);
INSERT INTO shop.shipments (order_id, warehouse_id, tracking, box, stops, took)
  SELECT id, 1 + id % 3, 'JJD' || lpad(id::text, 12, '0'), ROW (200 + id % 500, 100 + id % 300, 50 + id % 200)::shop.dimensions,
         ARRAY[placed_at + interval '1 day', placed_at + interval '2 days 3 hours'], make_interval(days => (2 + id % 4)::integer, hours => (id % 24)::integer)
  FROM shop.orders WHERE status IN ('shipped', 'delivered', 'returned') ORDER BY id;

-- Checked at once rather than row by row, which is several times faster.
ALTER TABLE shop.inventory ADD FOREIGN KEY (warehouse_id) REFERENCES shop.warehouses, ADD FOREIGN KEY (variant_id) REFERENCES shop.variants;
ALTER TABLE shop.orders ADD FOREIGN KEY (customer_id) REFERENCES shop.customers, ADD FOREIGN KEY (address_id) REFERENCES shop.addresses,
  ADD FOREIGN KEY (coupon) REFERENCES shop.coupons ON UPDATE CASCADE;
ALTER TABLE shop.order_items ADD FOREIGN KEY (order_id) REFERENCES shop.orders ON DELETE CASCADE, ADD FOREIGN KEY (variant_id) REFERENCES shop.variants;
ALTER TABLE shop.payments ADD FOREIGN KEY (order_id) REFERENCES shop.orders;
ALTER TABLE shop.shipments ADD FOREIGN KEY (order_id) REFERENCES shop.orders, ADD FOREIGN KEY (warehouse_id) REFERENCES shop.warehouses;

CREATE TABLE shop.reviews (
  product_id integer REFERENCES shop.products, customer_id bigint REFERENCES shop.customers, stars smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
  title text, body text NOT NULL, written_at timestamptz NOT NULL, PRIMARY KEY (product_id, customer_id)
);
INSERT INTO shop.reviews
  SELECT 1001 + i % 1800, 1 + i / 1800 * 997 + i % 1800, 1 + shop.scatter(i, 5), CASE WHEN i % 4 > 0 THEN (ARRAY['Lovely', 'Meh', 'Wunderschön', '素晴らしい', 'Très bien 👍'])[1 + i % 5] END,
         'I have used it for ' || i % 50 || ' weeks. ' || (ARRAY['It hums.', 'It leaks.', 'My cat adores it.', 'The handle is warm.', E'Would\nbuy\nagain.'])[1 + shop.scatter(i + 1, 5)] || ' ' || md5('review' || i),
         timestamptz '2024-02-01 00:00:00+00' + i * interval '40 minutes'
  FROM generate_series(1, 13000) AS i;

CREATE TABLE "Back Office"."Order Notes" (
  "Order No." bigint NOT NULL REFERENCES shop.orders, "Written By" text NOT NULL, "when?" timestamp NOT NULL, "Note" text, "100% done" boolean NOT NULL DEFAULT false
);
INSERT INTO "Back Office"."Order Notes"
  SELECT 500000 + i * 7, (ARRAY['Élodie', 'Kim', 'o''hara'])[1 + i % 3], timestamp '2024-05-01 09:00' + i * interval '1 hour',
         CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN E'called\tback\r\nno answer' WHEN 2 THEN '\N' WHEN 3 THEN '' ELSE 'see "R-' || i || '", 50% off; \ok' END, i % 2 = 0
  FROM generate_series(1, 4000) AS i;
CREATE INDEX "Order Notes: open ones" ON "Back Office"."Order Notes" ("Order No.") WHERE NOT "100% done";

-- What happened ----------------------------------------------------------------------------------------------------

CREATE TABLE shop.events (
  id bigint NOT NULL, at timestamptz NOT NULL, session uuid NOT NULL, kind text NOT NULL, path text, payload jsonb NOT NULL, PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2024_11 PARTITION OF shop.events FOR VALUES FROM ('2024-11-01 00:00:00+00') TO ('2024-12-01 00:00:00+00');
CREATE TABLE shop.events_2024_12 PARTITION OF shop.events FOR VALUES FROM ('2024-12-01 00:00:00+00') TO ('2025-01-01 00:00:00+00');
CREATE TABLE shop.events_2025_01 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01 00:00:00+00') TO ('2025-02-01 00:00:00+00');
CREATE TABLE shop.events_2025_02 PARTITION OF shop.events FOR VALUES FROM ('2025-02-01 00:00:00+00') TO ('2025-03-01 00:00:00+00');
CREATE TABLE shop.events_other PARTITION OF shop.events DEFAULT;
INSERT INTO shop.events
  SELECT i, timestamptz '2024-11-01 00:00:00+00' + i * interval '149 seconds', md5('session' || i / 12)::uuid, (ARRAY['view', 'view', 'search', 'add', 'checkout', 'error'])[1 + shop.scatter(i, 6)],
         CASE WHEN i % 9 > 0 THEN '/products/' || 1001 + shop.scatter(i, 1800) END,
         jsonb_build_object('ms', shop.scatter(i, 900), 'agent', 'Browser/' || 90 + i % 40, 'referrer', CASE WHEN i % 5 = 0 THEN 'https://search.example/?q=t%C3%A9' END)
  FROM generate_series(1, 72000) AS i;
CREATE INDEX events_session ON shop.events (session);
COMMENT ON TABLE shop.events IS 'What visitors did, a partition for each month';

CREATE TABLE shop.audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), by_role text NOT NULL, table_name text NOT NULL, operation "char" NOT NULL, old_row jsonb, new_row jsonb
);
INSERT INTO shop.audit_log (at, by_role, table_name, operation, old_row, new_row)
  SELECT timestamptz '2024-01-01 00:00:00+00' + i * interval '25 minutes', (ARRAY['web', 'staff', 'import'])[1 + i % 3], (ARRAY['shop.orders', 'shop.customers', 'shop.prices'])[1 + i % 3],
         (ARRAY['I', 'U', 'D'])[1 + i % 3], CASE WHEN i % 3 > 0 THEN jsonb_build_object('id', i, 'status', 'placed', 'n', i % 17) END, CASE WHEN i % 3 < 2 THEN jsonb_build_object('id', i, 'status', 'paid', 'by', md5(i::text)) END
  FROM generate_series(1, 20000) AS i;

CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := greatest(NEW.updated_at, OLD.updated_at + interval '1 microsecond');
  RETURN NEW;
END $$;
CREATE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO shop.audit_log (at, by_role, table_name, operation, old_row, new_row)
  VALUES (timestamptz '2025-03-01 00:00:00+00', 'web', tg_table_schema || '.' || tg_table_name, left(tg_op, 1)::"char", to_jsonb(OLD), to_jsonb(NEW));
  RETURN NULL;
END $$;
CREATE TRIGGER touch BEFORE UPDATE ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER audit AFTER UPDATE ON shop.orders FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION shop.audit();
UPDATE shop.orders SET status = 'packed' WHERE status = 'paid';
UPDATE shop.customers SET newsletter = NOT newsletter WHERE id % 100 = 7;

-- What is asked ------------------------------------------------------------------------------------------------------

CREATE INDEX products_search ON shop.products USING gin (search);
CREATE INDEX products_attributes ON shop.products USING gin (attributes jsonb_path_ops);
CREATE UNIQUE INDEX customers_email ON shop.customers (lower(email));
CREATE INDEX orders_customer ON shop.orders (customer_id, placed_at DESC) INCLUDE (status);
CREATE INDEX orders_open ON shop.orders (placed_at) WHERE status NOT IN ('delivered', 'returned', 'cancelled');
CREATE INDEX order_items_variant ON shop.order_items (variant_id);
CREATE INDEX audit_log_at ON shop.audit_log USING brin (at);

CREATE FUNCTION shop.order_total(wanted bigint) RETURNS numeric LANGUAGE sql STABLE AS $$
  SELECT o.shipping + coalesce(sum(i.total), 0) FROM shop.orders AS o LEFT JOIN shop.order_items AS i ON i.order_id = o.id WHERE o.id = wanted GROUP BY o.id
$$;
COMMENT ON FUNCTION shop.order_total(bigint) IS 'Items and shipping, after discounts';

-- Grouped by the primary key alone.
CREATE VIEW shop.order_summary AS
  SELECT o.id, o.number, o.status, c.full_name AS customer, count(i.line) AS lines, o.shipping + sum(i.total) AS total
  FROM shop.orders AS o JOIN shop.customers AS c ON c.id = o.customer_id LEFT JOIN shop.order_items AS i ON i.order_id = o.id GROUP BY o.id, c.id;
CREATE VIEW "Back Office"."To Reorder" WITH (security_barrier) AS
  SELECT v.sku, sum(i.available) AS "Left" FROM shop.inventory AS i JOIN shop.variants AS v ON v.id = i.variant_id GROUP BY v.sku HAVING sum(i.available) < 120;
CREATE RECURSIVE VIEW shop.category_paths (id, path) AS
  SELECT id, name FROM shop.categories WHERE parent_id IS NULL
  UNION ALL SELECT c.id, p.path || ' > ' || c.name FROM shop.categories AS c JOIN category_paths AS p ON p.id = c.parent_id;

CREATE MATERIALIZED VIEW shop.monthly_revenue AS
  SELECT date_trunc('month', o.placed_at AT TIME ZONE 'UTC')::date AS month, o.currency, count(DISTINCT o.id) AS orders, sum(i.total) AS revenue
  FROM shop.orders AS o JOIN shop.order_items AS i ON i.order_id = o.id WHERE o.status <> 'cancelled' GROUP BY 1, 2;
CREATE UNIQUE INDEX monthly_revenue_key ON shop.monthly_revenue (month, currency);
COMMENT ON MATERIALIZED VIEW shop.monthly_revenue IS 'Refreshed every night';

CREATE SEQUENCE shop.invoice_number START 20250001 INCREMENT 1;
CREATE TABLE "Back Office".documents (id integer PRIMARY KEY, title text NOT NULL, content oid NOT NULL);
DO $$
DECLARE object oid;
BEGIN
  PERFORM nextval('shop.invoice_number') FROM generate_series(1, 37);
  object := lo_from_bytea(20250301, (SELECT decode(string_agg(md5('terms' || i), ''), 'hex') FROM generate_series(1, 80000) AS i));
  EXECUTE format('COMMENT ON LARGE OBJECT %s IS %L', object, 'Terms of trade, as scanned');
  INSERT INTO "Back Office".documents VALUES (1, 'Terms of trade (scan)', object);
  object := lo_from_bytea(20250302, convert_to(E'Dear customer,\r\nwe have moved.\r\n', 'UTF8'));
  INSERT INTO "Back Office".documents VALUES (2, 'Notice "We have moved"', object);
END $$;
