-- Front doors keep for a while who is there, and look every second for whom they have to ask about anew.
CREATE INDEX users_by_change ON users (updated_at);
