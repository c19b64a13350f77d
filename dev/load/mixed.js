// Steady traffic: so many requests a minute, a share of them new orders, the rest reads.
//
//   ORDERPLANE_GATEWAY, ORDERPLANE_USERS   where, and who (a JSON list of token, address, role, order)
//   LOAD_PER_MINUTE, LOAD_SECONDS           how much, how long
//   LOAD_ORDER_SHARE                        0.05: one request in twenty is a new order
//   LOAD_KIND                               only this kind of request, to find what it costs; empty for all
//   LOAD_SUMMARY                            where the summary goes
import { check } from 'k6';
import http from 'k6/http';
import { Counter } from 'k6/metrics';
import { BASE, LEAN, USERS, headersOf, me, placeOrder, skusOf, summaryTo, usersWho } from './users.js';

const PER_MINUTE = Number(__ENV.LOAD_PER_MINUTE || 10000);
const SHARE = Number(__ENV.LOAD_ORDER_SHARE || 0.05);
const KIND = __ENV.LOAD_KIND;
const KINDS = ['place', 'order', 'orders', 'products', 'search', 'product', 'stock'];
// How often each kind of read is done; staff looks at the stock, customers at their orders.
const CUSTOMER_READS = [['order', 0.45], ['orders', 0.1], ['products', 0.2], ['search', 0.1], ['product', 0.15]];
const STAFF_READS = [['stock', 1]];

// With LOAD_KIND: those who send it, each as often as the others. An order is read by whose it is.
const sends = (user) => (KIND === 'stock') === (user.role !== 'customer') && (KIND !== 'order' || user.order);
const SENDERS = KIND ? usersWho(sends) : USERS;

export const options = {
  scenarios: {
    mixed: {
      executor: 'constant-arrival-rate',
      rate: PER_MINUTE,
      timeUnit: '1m',
      duration: `${__ENV.LOAD_SECONDS || 180}s`,
      preAllocatedVUs: USERS.length,
      maxVUs: USERS.length,
    },
  },
  ...LEAN,
  summaryTrendStats: ['count', 'avg', 'min', 'med', 'p(90)', 'p(95)', 'p(99)', 'max'],
  thresholds: {
    http_req_failed: ['rate==0'],
    dropped_iterations: ['count==0'],
    ...Object.fromEntries(KINDS.map((kind) => [`http_req_duration{kind:${kind}}`, ['p(95)<300']])),
  },
};

const accepted = new Counter('orders_accepted');
const refused = new Counter('refused');
const mine = [];

export function setup() {
  return { skus: skusOf(USERS[0]) };
}

function draw(choices) {
  let rest = Math.random();
  for (const [kind, share] of choices) {
    rest -= share;
    if (rest < 0) return kind;
  }
  return choices[0][0];
}

function oneOf(list) {
  return list[Math.floor(Math.random() * list.length)];
}

function read(user, kind, skus) {
  const params = { headers: headersOf(user), tags: { kind } };
  const sku = oneOf(skus);
  switch (kind) {
    case 'order': {
      const order = KIND ? user.order : oneOf(mine);
      return order ? http.get(`${BASE}/api/orders/${order}`, params) : read(user, 'orders', skus);
    }
    case 'orders':
      return http.get(`${BASE}/api/orders?limit=20`, params);
    case 'products':
      return http.get(`${BASE}/api/products?limit=20`, params);
    case 'search':
      return http.get(`${BASE}/api/products?q=stoneware`, params);
    case 'product':
      return http.get(`${BASE}/api/products/${sku}`, params);
    default:
      return http.get(`${BASE}/api/inventory/${sku}`, params);
  }
}

export default function (data) {
  const user = KIND ? oneOf(SENDERS) : me();
  let answer;
  if (KIND ? KIND === 'place' : Math.random() < SHARE) {
    answer = placeOrder(user, data.skus, { tags: { kind: 'place' } });
    if (answer.status === 202) {
      accepted.add(1);
      mine.push(answer.json('id'));
      if (mine.length > 20) mine.shift();
    }
  } else {
    answer = read(user, KIND || draw(user.role === 'customer' ? CUSTOMER_READS : STAFF_READS), data.skus);
  }
  if (!check(answer, { answered: (a) => a.status >= 200 && a.status < 300 })) {
    refused.add(1, { code: String(answer.status) });
  }
}

export const handleSummary = summaryTo(__ENV.LOAD_SUMMARY || 'mixed.json');
