// The users who shop in these runs, and what they order.
import exec from 'k6/execution';
import http from 'k6/http';
import { SharedArray } from 'k6/data';

export const BASE = __ENV.ORDERPLANE_GATEWAY;
export const USERS = new SharedArray('users', () => JSON.parse(open(__ENV.ORDERPLANE_USERS)));

// k6 runs on the processors that it measures. So it keeps no body that nobody reads, and no tag that nobody asks for:
// with the URL as a tag, each order would be a metric of its own.
export const LEAN = { discardResponseBodies: true, systemTags: ['status', 'expected_response'] };

// Those for whom `fits` is true, kept once for all virtual users.
export function usersWho(fits) {
  return new SharedArray('senders', () => JSON.parse(open(__ENV.ORDERPLANE_USERS)).filter(fits));
}

// Each virtual user is another user with another IP address, which k6 sends in X-Forwarded-For as a proxy does.
export function me() {
  return USERS[(exec.vu.idInTest - 1) % USERS.length];
}

export function headersOf(user, more = {}) {
  return { Authorization: `Bearer ${user.token}`, 'X-Forwarded-For': user.address, ...more };
}

export function skusOf(user) {
  const answer = http.get(`${BASE}/api/products`, { headers: headersOf(user), responseType: 'text' });
  return answer
    .json('items')
    .filter((product) => product.price.currency === 'EUR' && product.available > 1000000 / 2)
    .map((product) => product.sku);
}

const BODY_HEADERS = { 'Content-Type': 'application/json' };

export function placeOrder(user, skus, params) {
  const sku = skus[Math.floor(Math.random() * skus.length)];
  const body = {
    ...(user.role === 'customer' ? {} : { customer: 'c-1001' }),
    items: [{ sku, quantity: 1 + Math.floor(Math.random() * 3) }],
    address: {
      name: 'Load Test', line1: '1 Canal Street', city: 'Rotterdam', postalCode: '3011', country: 'NL',
    },
    paymentMethod: 'pm_card_visa',
  };
  const key = `${exec.vu.idInTest}-${exec.vu.iterationInInstance}-${Date.now()}-${Math.random()}`;
  const headers = headersOf(user, { ...BODY_HEADERS, 'Idempotency-Key': `"${key}"` });
  return http.post(`${BASE}/api/orders`, JSON.stringify(body), { ...params, headers, responseType: 'text' });
}

export function summaryTo(file) {
  return (data) => ({ [file]: JSON.stringify(data) });
}
