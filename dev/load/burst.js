// A burst: nothing but new orders, more than can be carried out. What is refused has to be refused fast.
//
//   ORDERPLANE_GATEWAY, ORDERPLANE_USERS   where, and who (a JSON list of token, address, role, order)
//   LOAD_PER_MINUTE, LOAD_SECONDS           how many new orders, for how long
//   LOAD_SUMMARY                            where the summary goes
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';
import { LEAN, USERS, me, placeOrder, skusOf, summaryTo } from './users.js';

export const options = {
  scenarios: {
    burst: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.LOAD_PER_MINUTE || 10000),
      timeUnit: '1m',
      duration: `${__ENV.LOAD_SECONDS || 60}s`,
      preAllocatedVUs: USERS.length,
      maxVUs: USERS.length,
    },
  },
  ...LEAN,
  summaryTrendStats: ['count', 'avg', 'min', 'med', 'p(90)', 'p(95)', 'p(99)', 'max'],
  thresholds: {
    dropped_iterations: ['count==0'],
    unexpected: ['count==0'],
    accepted_ms: ['p(95)<300'],
    shed_ms: ['p(95)<300'],
  },
};

// 429 and 503 are what is asked for here; 200 is the list of products at the beginning.
http.setResponseCallback(http.expectedStatuses(200, 202, 429, 503));

const acceptedMs = new Trend('accepted_ms', true);
const shedMs = new Trend('shed_ms', true);
const accepted = new Counter('orders_accepted');
const shed = new Counter('orders_shed');
const unexpected = new Counter('unexpected');

export function setup() {
  return { skus: skusOf(USERS[0]) };
}

export default function (data) {
  const answer = placeOrder(me(), data.skus, {});
  if (answer.status === 202) {
    accepted.add(1);
    acceptedMs.add(answer.timings.duration);
  } else if ((answer.status === 429 || answer.status === 503) && answer.headers['Retry-After']) {
    shed.add(1, { code: String(answer.status) });
    shedMs.add(answer.timings.duration);
  } else {
    unexpected.add(1, { code: String(answer.status) });
  }
}

export const handleSummary = summaryTo(__ENV.LOAD_SUMMARY || 'burst.json');
