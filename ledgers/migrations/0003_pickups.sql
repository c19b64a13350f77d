-- The carrier's id of a collection that was made and not yet confirmed: it is booked, never made again.
ALTER TABLE shipments ADD COLUMN pickup_id text;
